"""What an agent makes of its own past: orphans, lost journals, engines that were away, ends it has seen before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import attach
from agent.drivers.protocol import DriverError
from moorage.wire.session_pb2 import Assignment, LogsRequest, Position
from moorage.wire.spec_pb2 import ExecProbe, HealthCheck
from moorage.wire.store_pb2 import FAILED, HEALTH_UNKNOWN, HEALTHY, RUNNING, UNHEALTHY
from tests.unit.agent.build import assignment, group, policy
from tests.unit.agent.node import GRACE_MS, Node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.settle()
    yield node
    await node.down()


def run(told: Assignment, number: int = 0, task: str = "server") -> str:
    return f"moor-{told.alloc}-{task}-{number}"


async def test_an_orphan_yields_at_once_to_a_newer_attempt_of_its_slot(node: Node) -> None:
    spec = group()
    spec.shutdown_delay_ms = 60_000
    old, new = assignment(spec=spec), assignment(attempt=2)
    await node.take_set(old)
    await node.take_set()
    assert [orphan.alloc for orphan in node.allocations.orphans()] == [old.alloc]
    await node.take(new)
    assert node.running() == {run(new)} and node.engine.doubles == []
    assert node.allocations.orphans() == [] and len(node.allocations) == 1


async def test_an_orphan_rebuilt_from_labels_yields_to_a_newer_attempt(node: Node) -> None:
    old, new = assignment(), assignment(attempt=2)
    await node.take_set(old)
    await node.lose_journal()
    await node.take_set()
    assert node.running() == {run(old)}
    await node.take(new)
    assert node.running() == {run(new)} and node.engine.doubles == []


async def test_nothing_starts_before_the_engine_has_said_what_runs(node: Node) -> None:
    """The journal is lost and the engine away: an older attempt that nobody here knows of may be running."""
    old, new = assignment(), assignment(attempt=2)
    await node.take_set(old)
    node.engine.away = True
    await node.lose_journal()
    await node.take_set(new)
    node.engine.away = False
    for _ in range(12):
        await node.after(0.5)
    assert node.engine.doubles == []
    assert node.running() == {run(new)}


async def test_a_task_found_at_a_later_run_is_not_started_at_its_first(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    node.engine.kill(run(told))
    await node.after(1)
    assert node.running() == {run(told, 1)}
    node.engine.away = True
    await node.lose_journal()
    await node.take_set(assignment(1))
    node.engine.away = False
    await node.clock.advance(0.6)  # the other one has asked the engine, the inventory is still to come
    await node.take(told)
    await node.after(5)
    assert node.engine.doubles == []
    assert node.running() == {run(told, 1), run(assignment(1))}


async def test_a_failure_tells_since_when_it_was_last_healthy(node: Node) -> None:
    told = assignment(spec=group(restart=policy(attempts=0)))
    await node.take_set(told)
    since = node.clock.now_ms()
    await node.after(100)
    node.engine.kill(run(told), 1)
    await node.settle()
    status = node.status(told)
    assert status is not None and (status.phase, status.health) == (FAILED, HEALTH_UNKNOWN)
    assert (status.healthy_since_ms, status.running_since_ms) == (since, since)


async def test_between_two_runs_the_last_healthy_time_is_kept_and_a_new_one_begins_with_the_next(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    first = node.clock.now_ms()
    await node.after(100)
    node.engine.kill(run(told), 1)
    await node.settle()
    status = node.status(told)
    assert status is not None and (status.health, status.healthy_since_ms) == (UNHEALTHY, first)
    await node.after(1)
    status = node.status(told)
    assert status is not None and (status.health, status.healthy_since_ms) == (HEALTHY, node.clock.now_ms())


async def test_how_a_failed_allocation_ended_and_what_it_printed_outlive_the_agent(node: Node) -> None:
    told = assignment(spec=group(restart=policy(attempts=0)))
    told.spec.tasks[0].container.command[:] = ["sh", "-c", "echo out of luck; sleep 100000"]
    await node.take_set(told)
    node.engine.kill(run(told), 3)
    await node.settle()
    before = node.status(told)
    assert before is not None and (before.phase, before.tasks[0].exit_code) == (FAILED, 3)
    await node.host.outbox.next_batch()
    await node.restart()
    assert node.status(told) == before
    handle = attach.find(node.allocations, LogsRequest(alloc=told.alloc))
    frames = [frame async for frame in attach.frames(node.host.engine, handle, LogsRequest(tail=-1))]
    assert b"".join(frame.data for frame in frames) == b"out of luck\n"


async def test_what_was_unhealthy_when_the_agent_died_is_judged_anew(node: Node) -> None:
    spec = group(restart=policy(attempts=5))
    check = HealthCheck(exec=ExecProbe(command=["false"]), interval_ms=100, timeout_ms=500, failures=2)
    spec.tasks[0].health.CopyFrom(check)
    spec.tasks[0].container.command[:] = ["sh", "-c", "trap '' TERM; sleep 100000"]
    spec.tasks[0].stop.timeout_ms = 60_000
    told = assignment(spec=spec)
    await node.take_set(told)
    await node.after(1)
    status = node.status(told)
    assert status is not None and status.health == UNHEALTHY
    await node.host.outbox.next_batch()
    await node.restart()
    assert node.running() == {run(told)}
    told.spec.tasks[0].stop.timeout_ms = 100
    told.version = 2
    await node.take_set(told)
    for _ in range(5):
        await node.after(0.5)
    assert run(told) not in node.running()


async def test_a_start_that_failed_is_prepared_anew(node: Node) -> None:
    """The image was removed after it had been looked for: the next try has to look again."""
    gone = True

    def fail(_: object) -> DriverError | None:
        return DriverError("image busybox:1 has gone from this node") if gone else None

    node.engine.fail = fail
    told = assignment()
    await node.take_set(told)
    node.engine.prepare_s = 5
    await node.after(1)
    gone = False
    await node.after(4)
    assert node.running() == set()
    await node.after(1)
    assert node.running() == {run(told, 1)}


async def test_a_set_whose_session_breaks_off_is_taken_in_all_the_same(node: Node) -> None:
    told = assignment()
    position = Position(generation=1, epoch=1, revision=7)
    taking = asyncio.ensure_future(node.allocations.take_set(position, [told], GRACE_MS))
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await node.settle()
    assert node.running() == {run(told)}
    status = node.status(told)
    assert status is not None and status.phase == RUNNING


async def test_a_restored_store_is_told_again_what_it_has_forgotten(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    batch = await node.host.outbox.next_batch()
    node.host.outbox.acknowledged(batch.serial)
    await node.take_set(told)
    assert len(node.host.outbox) == 0
    await node.allocations.take_set(Position(generation=2, epoch=1, revision=1), [told], GRACE_MS)
    again, _ = await asyncio.gather(node.host.outbox.next_batch(), node.after(1))
    assert list(again.statuses) == list(batch.statuses)
