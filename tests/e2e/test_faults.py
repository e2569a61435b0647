"""Whatever gets killed, exactly the wanted containers run: none lost, none doubled, namespaces kept."""

from __future__ import annotations

import signal
import time

import pytest

from tests.e2e.truth import Running, running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.cluster import QUICK, Cluster
from tests.lab.processes import alive, wait_for

pytestmark = pytest.mark.e2e

LOST_AFTER_S = float(QUICK["MOOR_LOST_AFTER"])
GRACE_S = float(QUICK["MOOR_ORPHAN_GRACE"])


@pytest.fixture
def web(cluster: Cluster, user: User) -> list[Running]:
    """A job of six that runs."""
    user.apply(service("web", 6))
    return wait_exactly(cluster, {"web": 6})


def ids(found: list[Running]) -> set[str]:
    return {each.id for each in found}


def inodes(cluster: Cluster, found: list[Running]) -> dict[str, int]:
    return {each.id: cluster.host(each.host).namespace_inode(each.id) for each in found}


def test_a_killed_container_is_restarted_in_the_same_namespace(cluster: Cluster, web: list[Running]) -> None:
    victim = web[0]
    host = cluster.host(victim.host)
    inode = host.namespace_inode(victim.id)
    host.engine.kill_container(victim.id)
    wait_for(lambda: victim.id not in ids(running(cluster)), 20, "the container to be gone")
    after = wait_exactly(cluster, {"web": 6})
    again = next(each for each in after if each.index == victim.index)
    assert (again.host, again.attempt) == (victim.host, victim.attempt)
    assert host.namespace_inode(again.id) == inode
    assert ids(web) - {victim.id} <= ids(after)


def test_kill_9_of_an_agent_touches_no_workload(cluster: Cluster, web: list[Running]) -> None:
    before = inodes(cluster, web)
    host = cluster.hosts[0]
    old = host.kill_agent()
    assert cluster.start_agent(host) != old
    after = wait_exactly(cluster, {"web": 6}, hold_s=2 * LOST_AFTER_S)
    assert inodes(cluster, after) == before


def test_a_job_applied_while_an_agent_is_dead_waits_for_it_or_goes_elsewhere(cluster: Cluster, user: User) -> None:
    cluster.hosts[0].kill_agent()
    user.apply(service("late", 3))
    wait_exactly(cluster, {"late": 3})
    cluster.start_agent(cluster.hosts[0])
    wait_exactly(cluster, {"late": 3}, hold_s=2 * LOST_AFTER_S)


def test_kill_9_of_the_controller_touches_no_workload_and_work_goes_on(
    cluster: Cluster, user: User, web: list[Running]
) -> None:
    old = cluster.controller.kill()
    wait_exactly(cluster, {"web": 6}, hold_s=3)
    assert cluster.controller.start() != old
    user.apply(service("web", 8))
    after = wait_exactly(cluster, {"web": 8})
    assert ids(web) <= ids(after)


def test_kill_9_of_etcd_touches_no_workload_and_work_goes_on(cluster: Cluster, user: User, web: list[Running]) -> None:
    old = cluster.controller.etcd_pid()
    cluster.controller.kill_etcd()
    assert not alive(old)
    wait_exactly(cluster, {"web": 6})
    wait_for(
        lambda: cluster.controller.etcd_runs() and cluster.controller.etcd_pid() != old, 30, "etcd to be started again"
    )
    user.apply(service("web", 7))
    after = wait_exactly(cluster, {"web": 7})
    assert ids(web) <= ids(after)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["orderly", "kill-9"])
def test_a_restart_of_dockerd_touches_no_workload(cluster: Cluster, web: list[Running], number: signal.Signals) -> None:
    before = inodes(cluster, web)
    engine = cluster.hosts[0].engine
    old = engine.pid()
    engine.stop(number)
    assert not alive(old)
    engine.start()
    after = wait_exactly(cluster, {"web": 6}, hold_s=LOST_AFTER_S)
    assert inodes(cluster, after) == before


def test_the_namespace_survives_a_task_restart_after_agent_and_dockerd_restarted(cluster: Cluster, user: User) -> None:
    user.apply(service("calm", 3, disconnect={"replace_after": "1m"}))
    host = cluster.hosts[0]
    victim = next(each for each in wait_exactly(cluster, {"calm": 3}) if each.host == host.name)
    inode = host.namespace_inode(victim.id)
    host.kill_agent()
    host.engine.stop(signal.SIGKILL)
    host.engine.start()
    cluster.start_agent(host)
    host.engine.kill_container(victim.id)
    wait_for(lambda: victim.id not in ids(running(cluster)), 20, "the container to be gone")
    after = wait_exactly(cluster, {"calm": 3})
    again = next(each for each in after if each.index == victim.index)
    assert host.namespace_inode(again.id) == inode


def test_a_rebooted_host_runs_again_what_is_still_its_own(cluster: Cluster, web: list[Running]) -> None:
    host = cluster.hosts[1]
    theirs = {each.id for each in web if each.host == host.name}
    host.power_off()
    assert not theirs & {each.id for each in running(cluster, ["h1", "h3"])}
    host.power_on()
    assert not host.containers(), "nothing starts before the first complete set"
    cluster.start_agent(host)
    wait_exactly(cluster, {"web": 6}, hold_s=2 * LOST_AFTER_S)


def test_a_host_that_stays_away_is_replaced_and_comes_back_empty_handed(
    cluster: Cluster, user: User, web: list[Running]
) -> None:
    host = cluster.hosts[1]
    host.power_off()

    def replaced() -> bool:
        return len({each.index for each in running(cluster, ["h1", "h3"])}) == 6

    wait_for(replaced, 60, "all six to run on the other two")
    assert user.nodes()[host.name]["phase"] == "lost"
    host.power_on()
    cluster.start_agent(host)
    user.wait_for_nodes(3)
    found = wait_exactly(cluster, {"web": 6}, hold_s=2 * LOST_AFTER_S)
    assert host.name not in {each.host for each in found}


def test_a_partition_longer_than_the_timeout_is_replaced_and_healed_without_doubles(
    cluster: Cluster, user: User, web: list[Running]
) -> None:
    host = cluster.hosts[2]
    cluster.underlay.cut(host.name)
    before = cluster.underlay.packets_to(host.name)

    def replaced() -> bool:
        return len({each.index for each in running(cluster, ["h1", "h2"])}) == 6

    wait_for(replaced, 60, "all six to run on this side")
    assert host.containers(), "on the far side they go on: disconnect says nothing else"
    assert cluster.underlay.packets_to(host.name) == before, "nothing went through"
    cluster.underlay.heal(host.name)
    user.wait_for_nodes(3)
    wait_exactly(cluster, {"web": 6}, hold_s=2 * LOST_AFTER_S)


def test_a_short_partition_moves_nothing(cluster: Cluster, user: User, web: list[Running]) -> None:
    host = cluster.hosts[2]
    cluster.underlay.cut(host.name)
    time.sleep(LOST_AFTER_S / 2)
    cluster.underlay.heal(host.name)
    user.wait_for_nodes(3)
    assert ids(wait_exactly(cluster, {"web": 6}, hold_s=2 * LOST_AFTER_S)) == ids(web)


def test_a_partitioned_host_stops_what_it_was_told_to_stop_on_its_own(cluster: Cluster, user: User) -> None:
    user.apply(service("shy", 3, disconnect={"replace_after": "2s", "stop_on_node_after": "2s"}))
    wait_exactly(cluster, {"shy": 3})
    host = cluster.hosts[2]
    cluster.underlay.cut(host.name)
    wait_for(lambda: not host.containers(), 30, "the far side to stop by itself")
    cluster.underlay.heal(host.name)
    wait_exactly(cluster, {"shy": 3}, hold_s=2 * LOST_AFTER_S)


def test_what_a_partitioned_host_stopped_is_started_again_when_it_is_back_before_the_replacement(
    cluster: Cluster, user: User
) -> None:
    patient = {"replace_after": "2m", "stop_on_node_after": "2s"}
    user.apply(service("shy", 3, disconnect=patient, restart={"mode": "fail"}))
    before = ids(wait_exactly(cluster, {"shy": 3}))
    host = cluster.hosts[2]
    cluster.underlay.cut(host.name)
    wait_for(lambda: not host.containers(), 30, "the far side to stop by itself")
    cluster.underlay.heal(host.name)
    after = wait_exactly(cluster, {"shy": 3}, hold_s=2 * LOST_AFTER_S)
    assert len(ids(after) & before) == 2 and max(each.attempt for each in after) == 2


def test_a_drained_node_is_emptied_at_a_bounded_rate_and_filled_no_more(
    cluster: Cluster, user: User, web: list[Running]
) -> None:
    user.patch_node("h1", draining=True)
    fewest = 6

    def empty() -> bool:
        nonlocal fewest
        fewest = min(fewest, len({each.index for each in running(cluster)}))
        return not cluster.host("h1").containers()

    wait_for(empty, 60, "the node to be empty", pause_s=0.02)
    wait_exactly(cluster, {"web": 6})
    assert fewest >= 5, "max_unavailable is 1"
    user.apply(service("web", 8))
    found = wait_exactly(cluster, {"web": 8})
    assert "h1" not in {each.host for each in found}
    user.patch_node("h1", draining=False)


def test_a_controller_on_an_old_backup_stops_nothing_and_goes_on_after_accept_restore(
    cluster: Cluster, user: User
) -> None:
    user.apply(service("kept", 3))
    wait_exactly(cluster, {"kept": 3})
    backup = cluster.controller.backup_etcd()
    user.apply(service("newer", 3))
    user.apply(service("kept", 4))
    wait_exactly(cluster, {"kept": 4, "newer": 3})
    before = ids(running(cluster))

    cluster.controller.kill()
    cluster.controller.restore_etcd(backup)
    cluster.controller.start()
    cluster.controller.wait_ready()
    wait_for(lambda: "restore" in str(user.get("/v1/cluster")), 30, "the old backup to be suspected")
    time.sleep(2 * LOST_AFTER_S)
    assert ids(running(cluster)) == before, "the agents refuse it, and nothing stops"

    user.call("POST", "/v1/cluster/accept-restore").raise_for_status()
    user.wait_for_nodes(3)

    def orphans_are_listed() -> bool:
        listed = {o["job"] for node in user.nodes().values() for o in node["orphans"]}
        return "newer" in listed

    until = time.monotonic() + GRACE_S / 2
    while time.monotonic() < until:
        assert before <= ids(running(cluster)), "something went before the grace is over"
        time.sleep(0.5)
    wait_for(orphans_are_listed, 30, "what the store does not know to be listed")
    user.apply(service("kept", 5))
    wait_for(lambda: len([r for r in running(cluster) if r.job == "kept"]) >= 5, 30, "work to go on")
    wait_exactly(cluster, {"kept": 5}, timeout_s=GRACE_S + 30)
