"""A job's life on three real hosts: what its user does to it."""

from __future__ import annotations

import time

import pytest

from tests.e2e.truth import running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.cluster import Cluster
from tests.lab.processes import wait_for

pytestmark = pytest.mark.e2e


def test_a_deployed_job_runs_as_often_as_asked_and_spread_over_the_hosts(cluster: Cluster, user: User) -> None:
    user.apply(service("web", 6))
    found = wait_exactly(cluster, {"web": 6})
    assert {each.host for each in found} == {"h1", "h2", "h3"}
    wait_for(lambda: user.job("web")["status"]["phase"] == "running", 20, "the job to be called running")


def test_scaling_up_and_down_touches_no_other_instance(cluster: Cluster, user: User) -> None:
    user.apply(service("web", 3))
    before = {each.index: each.id for each in wait_exactly(cluster, {"web": 3})}
    user.apply(service("web", 7))
    after = {each.index: each.id for each in wait_exactly(cluster, {"web": 7})}
    assert {index: after[index] for index in before} == before
    user.apply(service("web", 2))
    left = {each.index: each.id for each in wait_exactly(cluster, {"web": 2})}
    assert left == {index: before[index] for index in (0, 1)}


def test_a_new_image_replaces_one_at_a_time(cluster: Cluster, user: User) -> None:
    user.apply(service("web", 4))
    wait_exactly(cluster, {"web": 4})
    user.apply(service("web", 4, image="busybox:2"))
    fewest = 4

    def renewed() -> bool:
        nonlocal fewest
        found = running(cluster)
        fewest = min(fewest, len({each.index for each in found}))
        return len(found) == 4 and {each.image for each in found} == {"busybox:2"}

    wait_for(renewed, 60, "all four to run the new image")
    wait_exactly(cluster, {"web": 4})
    assert fewest >= 3, "max_parallel is 1"


def test_changed_count_labels_and_policies_replace_nothing(cluster: Cluster, user: User) -> None:
    job = service("web", 2)
    user.apply(job)
    before = {each.id for each in wait_exactly(cluster, {"web": 2})}
    job["labels"] = {"team": "web"}
    job["groups"]["web"]["restart"] = {"attempts": 9}
    user.apply(job)
    assert {each.id for each in wait_exactly(cluster, {"web": 2}, hold_s=3)} == before


def test_a_crash_loop_waits_longer_each_time_and_says_why(cluster: Cluster, user: User) -> None:
    user.apply(
        service(
            "crash", 1, command="echo out of luck; exit 3", restart={"attempts": 1, "interval": "1m", "delay": "100ms"}
        )
    )

    seen: set[int] = set()

    def told() -> bool:
        seen.update(a["attempt"] for a in user.allocations("crash"))
        return len(seen) >= 3 and "with code 3" in str(user.job("crash")["status"])

    started = time.monotonic()
    wait_for(told, 60, "the crash to be told")
    time.sleep(10)
    told()
    # 0.5, 1, 2, 4, 5, 5 … seconds between attempts, each of which also restarts once on its node
    assert max(seen) - min(seen) + 1 < 4 + (time.monotonic() - started) / 3, "backoff keeps the loop slow"


def test_groups_of_several_containers_run_together_and_one_restarts_alone(cluster: Cluster, user: User) -> None:
    user.apply(service("pair", 2, tasks=("server", "helper")))
    before = wait_exactly(cluster, {"pair": 2}, tasks={"pair": ("server", "helper")})
    victim = next(each for each in before if each.task == "helper")
    host = cluster.host(victim.host)
    inode = host.namespace_inode(victim.id)
    host.engine.kill_container(victim.id)
    wait_for(lambda: victim.id not in {each.id for each in running(cluster)}, 20, "the container to be gone")
    after = wait_exactly(cluster, {"pair": 2}, tasks={"pair": ("server", "helper")})
    assert {each.id for each in after if each.task == "server"} == {each.id for each in before if each.task == "server"}
    again = next(each for each in after if (each.index, each.task) == (victim.index, "helper"))
    assert host.namespace_inode(again.id) == inode


def test_a_job_that_fits_nowhere_waits_and_says_why_with_numbers(cluster: Cluster, user: User) -> None:
    job = service("big", 1)
    job["groups"]["web"]["tasks"]["server"]["resources"] = {"cpu": "50m", "memory": "64Gi"}
    user.apply(job)

    def told() -> bool:
        waiting = [w for g in user.job("big")["status"]["groups"] for w in g["waiting"]]
        return any("3 nodes" in w["reason"] and "memory" in w["reason"] for w in waiting)

    wait_for(told, 20, "the reason")
    wait_exactly(cluster, {})


def test_a_deleted_job_leaves_nothing_behind(cluster: Cluster, user: User) -> None:
    user.apply(service("web", 3))
    wait_exactly(cluster, {"web": 3})
    user.delete("web")
    wait_exactly(cluster, {})
    wait_for(lambda: "web" not in user.job_names(), 30, "the job to be gone")
    wait_for(lambda: not any(host.engine.containers() for host in cluster.hosts), 30, "the containers to be removed")
    wait_for(lambda: not any(host.leftovers() for host in cluster.hosts), 30, "namespaces and cgroups to be removed")


def test_a_missing_image_is_named_with_what_to_do(cluster: Cluster, user: User) -> None:
    user.apply(service("ghost", 1, image="no-such-image:7"))
    wait_for(lambda: "no-such-image:7" in str(user.allocations("ghost")), 60, "the image to be named")


def test_a_command_that_does_not_exist_is_named(cluster: Cluster, user: User) -> None:
    job = service("nope", 1)
    job["groups"]["web"]["tasks"]["server"]["container"]["command"] = ["/no/such/program"]
    user.apply(job)
    wait_for(lambda: "/no/such/program" in str(user.allocations("nope")), 60, "the command to be named")


def test_a_task_that_exceeds_its_memory_is_reported_as_out_of_memory(cluster: Cluster, user: User) -> None:
    user.apply(service("greedy", 1, command="x=a; while :; do x=$x$x; done"))

    def told() -> bool:
        return any(task["oom_killed"] for a in user.allocations("greedy") for task in a["tasks"])

    wait_for(told, 60, "the memory kill to be reported")
