"""A host whose engine does not know the OCI runtime: pause containers hold the namespaces, and all else holds too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.truth import Running, running, wait_exactly
from tests.e2e.user import User, service
from tests.lab import image
from tests.lab.cluster import QUICK, Cluster
from tests.lab.engine import OwnEngine
from tests.lab.host import Host
from tests.lab.processes import wait_for

pytestmark = pytest.mark.e2e

TASKS = ("server", "helper")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lab = Cluster("pause", 1, api_port=8290, env=QUICK)
    lab.down()
    host = lab.hosts[0]
    try:
        lab.make_network()
        assert isinstance(host.engine, OwnEngine)
        host.engine.configure_plain()
        host.engine.start()
        image.load(host.engine.socket)
        lab.controller.start()
        lab.controller.wait_ready()
        lab.start_agent(host)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def host(cluster: Cluster) -> Host:
    return cluster.hosts[0]


@pytest.fixture
def user(cluster: Cluster, host: Host) -> Iterator[User]:
    user = User(cluster)
    user.wait_for_nodes(1)
    yield user
    user.delete_all_jobs()
    wait_for(lambda: not host.engine.containers(), 30, "every container to be gone, the pause containers too")
    wait_for(lambda: not host.leftovers(), 30, "namespaces and cgroups to be gone")


def pauses(host: Host) -> list[str]:
    """Running ones."""
    listed = [each for each in host.engine.containers() if "moorage.pause" in (each["Labels"] or {})]
    return [each["Id"] for each in listed if each["State"] == "running"]


def pair(cluster: Cluster, user: User, name: str = "pair") -> dict[str, Running]:
    user.apply(service(name, 1, tasks=TASKS, restart={"delay": "100ms", "attempts": 9, "interval": "1m"}))
    return whole(cluster, name)


def whole(cluster: Cluster, name: str = "pair") -> dict[str, Running]:
    """Both tasks, which share one namespace."""
    found = {each.task: each for each in wait_exactly(cluster, {name: 1}, tasks={name: TASKS})}
    assert len({cluster.host(each.host).namespace_inode(each.id) for each in found.values()}) == 1
    return found


def test_a_group_shares_what_a_pause_container_holds_and_one_task_restarts_alone(
    cluster: Cluster, user: User, host: Host
) -> None:
    before = pair(cluster, user)
    assert len(pauses(host)) == 1
    assert "pause container" in str(user.nodes()["h1"]["missing"])
    inode = host.namespace_inode(before["server"].id)
    host.engine.kill_container(before["helper"].id)
    wait_for(lambda: before["helper"] not in running(cluster), 20, "the task to be gone")
    after = whole(cluster)
    assert after["server"] == before["server"]
    assert host.namespace_inode(after["helper"].id) == inode


def test_kill_9_of_the_agent_leaves_group_and_pause_container_alone(cluster: Cluster, user: User, host: Host) -> None:
    before, held = pair(cluster, user), pauses(host)
    host.kill_agent()
    cluster.start_agent(host)
    user.wait_for_nodes(1)
    assert (whole(cluster), pauses(host)) == (before, held)


def test_a_killed_pause_container_costs_the_group_nothing_but_its_namespace(
    cluster: Cluster, user: User, host: Host
) -> None:
    before = pair(cluster, user)
    [held] = pauses(host)
    host.engine.kill_container(held)
    wait_for(lambda: not pauses(host), 20, "the pause container to be gone")
    host.engine.kill_container(before["server"].id)
    host.engine.kill_container(before["helper"].id)
    wait_for(lambda: not {*before.values()} & {*running(cluster)}, 20, "both tasks to be gone")
    after = whole(cluster)
    assert {each.attempt for each in after.values()} == {1}, "restarted on the node, nothing has failed"


def test_a_restart_of_an_engine_without_live_restore_brings_everything_back(
    cluster: Cluster, user: User, host: Host
) -> None:
    before = pair(cluster, user)
    host.engine.stop(signal.SIGTERM)
    host.engine.start()
    wait_for(lambda: not {*before.values()} & {*running(cluster)}, 20, "both tasks to be gone")
    whole(cluster)


def test_once_the_engine_knows_the_runtime_new_groups_need_no_pause_container(
    cluster: Cluster, user: User, host: Host
) -> None:
    pair(cluster, user, "old")
    host.engine.configure(host.wrapper, host.links_dir)
    os.kill(host.engine.pid(), signal.SIGHUP)
    host.kill_agent()
    cluster.start_agent(host)
    user.wait_for_nodes(1)
    wait_for(lambda: "pause" not in str(user.nodes()["h1"]["missing"]), 20, "the runtime to be known")
    user.apply(service("new", 1))
    wait_exactly(cluster, {"old": 1, "new": 1}, tasks={"old": TASKS})
    assert len(pauses(host)) == 1, "the old group's"
