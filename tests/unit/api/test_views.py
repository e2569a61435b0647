"""From stored things to what users read."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import views
from controller.api.usage import Rates
from controller.cache import AllocEntry, NodeEntry, StatusEntry
from controller.cache.entries import SharedBytes
from controller.store.protocol import KeyValue
from moorage.model.view import ResourcesView
from moorage.wire import keys, store_pb2
from moorage.wire.session_pb2 import Heartbeat, Usage

SPEC = {"groups": {"web": {"count": 3}}}


def job(version: int = 1, **more: Any) -> store_pb2.Job:
    return store_pb2.Job(uid="u", version=version, **more)


def state(settled: int, *, placed: int = 0, running: int = 0, healthy: int = 0, updated: int = 0) -> store_pb2.JobState:
    group = store_pb2.GroupState(
        group="web", wanted=3, placed=placed, running=running, healthy=healthy, updated=updated
    )
    return store_pb2.JobState(groups=[group], settled_version=settled)


@pytest.mark.parametrize(
    ("head", "seen", "phase"),
    [
        (job(), store_pb2.JobState(), "pending"),
        (job(), state(0), "pending"),
        (job(), state(0, placed=3, running=1), "deploying"),
        (job(), state(0, placed=3, running=3, healthy=3, updated=3), "deploying"),
        (job(), state(1, placed=3, running=3, healthy=3, updated=3), "running"),
        (job(), state(1, placed=3, running=2, healthy=2, updated=3), "degraded"),
        (job(2), state(1, placed=3, running=3, healthy=3, updated=3), "deploying"),
        (job(2, deleting=True), state(2, placed=3, running=3, healthy=3, updated=3), "deleting"),
    ],
)
def test_a_jobs_phase(head: store_pb2.Job, seen: store_pb2.JobState, phase: str) -> None:
    assert views.job_status(head, SPEC, seen).phase == phase


def test_a_waiting_job_says_why_with_the_schedulers_words() -> None:
    seen = state(0)
    for index in (1, 2):
        seen.groups[0].waiting.add(index=index, reason="3 nodes: memory short by 120 MiB")
    status = views.job_status(job(), SPEC, seen)
    assert status.message == "web: 2 of 3 wait: 3 nodes: memory short by 120 MiB"


def test_a_job_whose_instances_are_not_healthy_says_what_is_the_matter_with_them() -> None:
    seen = state(0, placed=3, running=2, updated=3)
    for index in range(2):
        seen.groups[0].troubled.add(index=index, reason="server: exited with code 3")
    seen.groups[0].waiting.add(index=2, reason="1 node: cordoned")

    status = views.job_status(job(), SPEC, seen)

    assert status.message == "web: 1 of 3 wait: 1 node: cordoned; 2 of 3 not healthy: server: exited with code 3"
    assert [one.index for one in status.groups[0].troubled] == [0, 1]


def test_a_count_that_the_leader_has_not_seen_yet_is_shown() -> None:
    status = views.job_status(job(2), {"groups": {"web": {"count": 5}, "db": {"count": 1}}}, state(1, placed=3))
    assert [(group.name, group.wanted, group.placed) for group in status.groups] == [("web", 5, 3), ("db", 1, 0)]


def allocation(**more: Any) -> AllocEntry:
    alloc = store_pb2.Alloc(project="default", job="shop", node="n1", version=1, **more)
    return AllocEntry(KeyValue(keys.AllocKey("u", "web", 0, 2).key, alloc.SerializeToString(), 9, 8), SharedBytes())


def status_of(entry: AllocEntry, **more: Any) -> StatusEntry:
    news = store_pb2.AllocStatus(alloc=entry.id, **more)
    return StatusEntry(KeyValue(keys.status("n1", entry.id), news.SerializeToString(), 10, 10), "n1", entry.id)


def node(phase: store_pb2.NodeState.Phase.ValueType, **spec: Any) -> NodeEntry:
    facts = store_pb2.NodeFacts(name="host-1", cpu_millis=4000)
    facts.attributes.update({"os.arch": "amd64", "label.rack": "r1", "label.disk": "ssd"})
    state = store_pb2.NodeState(phase=phase, name="host-1", message="no heartbeat for 15 s")
    return NodeEntry("n1", spec=store_pb2.NodeSpec(**spec), state=state, facts=facts)


def test_an_allocation_without_news_is_pending() -> None:
    view = views.allocation_view(allocation(ports={"http": 20000}, why="best fit"), None, None)
    assert (view.phase, view.health, view.desired, view.node_name) == ("pending", "unknown", "run", "n1")
    assert (view.name, view.attempt, view.ports, view.why) == ("shop/web/0", 2, {"http": 20000}, "best fit")


def test_an_allocation_shows_its_nodes_news() -> None:
    entry = allocation(stop=True, stop_reason="scaled down")
    task = store_pb2.TaskStatus(name="server", state="exited", exit_code=137, oom_killed=True, finished_ms=5)
    status = status_of(entry, phase=store_pb2.FAILED, message="out of memory", tasks=[task])
    view = views.allocation_view(entry, status, node(store_pb2.NodeState.READY))
    assert (view.phase, view.message, view.desired, view.stop_reason) == (
        "failed",
        "out of memory",
        "stop",
        "scaled down",
    )
    assert (view.tasks[0].exit_code, view.tasks[0].oom_killed, view.node_name) == (137, True, "host-1")


def test_what_ran_on_a_lost_node_is_lost_but_what_had_ended_there_has_ended() -> None:
    entry, gone = allocation(), node(store_pb2.NodeState.LOST)
    running = views.allocation_view(entry, status_of(entry, phase=store_pb2.RUNNING), gone)
    ended = views.allocation_view(entry, status_of(entry, phase=store_pb2.STOPPED), gone)
    assert (running.phase, running.message) == ("lost", "its node host-1 is lost")
    assert ended.phase == "stopped"


def test_a_running_task_has_no_exit_code() -> None:
    assert views.task_view(store_pb2.TaskStatus(name="a", state="running", started_ms=1)).exit_code is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (node(store_pb2.NodeState.READY), ""),
        (node(store_pb2.NodeState.READY, cordoned=True), "cordoned"),
        (node(store_pb2.NodeState.READY, cordoned=True, drain=True), "draining"),
        (node(store_pb2.NodeState.LOST, cordoned=True), "lost: no heartbeat for 15 s, cordoned"),
        (node(store_pb2.NodeState.UNKNOWN), "never connected"),
    ],
)
def test_a_node_says_why_nothing_is_placed_there(entry: NodeEntry, message: str) -> None:
    view = views.node_view(entry, ResourcesView(cpu_millis=0, memory_bytes=0, disk_bytes=0), 0, None, [])
    assert (view.schedulable, view.message) == (not message, message)


def test_labels_given_by_people_overrule_those_of_the_agent_and_are_no_attributes() -> None:
    entry = node(store_pb2.NodeState.READY, labels={"disk": "hdd"})
    view = views.node_view(entry, ResourcesView(cpu_millis=0, memory_bytes=0, disk_bytes=0), 0, None, [])
    assert view.labels == {"rack": "r1", "disk": "hdd"}
    assert view.attributes == {"os.arch": "amd64"}


def beat(at_ms: int, cpu_us: int) -> Heartbeat:
    return Heartbeat(at_ms=at_ms, usage=Usage(cpu_usage_us=cpu_us, memory_bytes=5, disk_bytes=6))


def test_usage_is_the_rate_between_two_heartbeats() -> None:
    rates = Rates()
    assert rates.of("n1", beat(1000, 500_000)) is None
    assert rates.of("n1", beat(1000, 500_000)) is None
    expected = ResourcesView(cpu_millis=1500, memory_bytes=5, disk_bytes=6)
    assert rates.of("n1", beat(3000, 3_500_000)) == expected
    assert rates.of("n1", beat(3000, 3_500_000)) == expected, "nothing new was heard: the same"


def test_usage_after_a_reboot_is_not_negative() -> None:
    rates = Rates()
    rates.of("n1", beat(1000, 9_000_000))
    after = rates.of("n1", beat(2000, 100))
    assert after is not None
    assert after.cpu_millis == 0
