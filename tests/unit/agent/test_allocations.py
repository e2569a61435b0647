"""The table and its runners over a fake engine: what runs, what is said of it, and what survives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.drivers.protocol import DriverError
from agent.journal import JournalError
from moorage.wire.session_pb2 import Assignment
from moorage.wire.store_pb2 import FAILED, HEALTHY, PENDING, PREPARING, RUNNING, STOPPED, STOPPING, UNHEALTHY
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


async def test_a_quick_start_costs_one_status(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    assert node.running() == {run(told)}
    assert len(node.host.outbox) == 1
    status = node.status(told)
    assert status is not None and (status.phase, status.health) == (RUNNING, HEALTHY)
    assert status.tasks[0].container == run(told)


async def test_a_slow_pull_is_reported(node: Node) -> None:
    node.engine.prepare_s = 5
    told = assignment()
    await node.take_set(told)
    assert node.status(told) is None
    await node.after(0.31)
    status = node.status(told)
    assert status is not None and status.phase == PREPARING
    assert (status.message, status.tasks[0].state) == ("pulling busybox:1", "pulling")
    await node.after(5)
    status = node.status(told)
    assert status is not None and status.phase == RUNNING


async def test_a_pull_that_nobody_wants_any_more_is_left(node: Node) -> None:
    node.engine.prepare_s = 500
    told = assignment()
    await node.take_set(told)
    await node.take(assignment(stop=True))
    status = node.status(told)
    assert status is not None and status.phase == STOPPED
    assert node.running() == set()


async def test_a_stop_reports_stopping_and_then_stopped_and_gives_everything_back(node: Node) -> None:
    spec = group()
    spec.shutdown_delay_ms = 2000
    told = assignment(spec=spec)
    await node.take_set(told)
    await node.take(assignment(stop=True))
    await node.after(0.4)
    status = node.status(told)
    assert status is not None and status.phase == STOPPING and node.running() == {run(told)}
    await node.after(2)
    status = node.status(told)
    assert status is not None and (status.phase, status.message) == (STOPPED, "scaled down")
    assert node.engine.tasks == {} and node.attachments.attached == set()


async def test_a_quick_stop_costs_one_status(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    await node.host.outbox.next_batch()
    await node.take(assignment(stop=True))
    await node.after(1)
    batch = await node.host.outbox.next_batch()
    assert [status.phase for status in batch.statuses] == [STOPPED]
    assert batch.statuses[0].serial == node.status(told).serial  # type: ignore[union-attr]


async def test_a_superseded_one_is_not_given_its_shutdown_delay(node: Node) -> None:
    spec = group()
    spec.shutdown_delay_ms = 60_000
    told = assignment(spec=spec)
    await node.take_set(told)
    newer = assignment(attempt=2)
    await node.take_set(newer)  # the older one is not even mentioned
    assert node.running() == {run(newer)}
    assert node.engine.doubles == []


async def test_an_error_of_the_engine_is_tried_again_by_policy_and_told(node: Node) -> None:
    node.engine.fail = lambda launch: DriverError("no space left on the node")
    told = assignment(spec=group(restart=policy(attempts=2, delay_ms=1000)))
    await node.take_set(told)
    await node.after(0.4)
    status = node.status(told)
    assert status is not None and status.phase == PREPARING
    assert (status.tasks[0].state, status.tasks[0].message) == ("backoff", "no space left on the node")
    await node.after(1)
    await node.after(2)
    status = node.status(told)
    assert status is not None and status.phase == FAILED
    assert status.message == "server: no space left on the node; tried again 2 times within 300 s"


async def test_an_image_that_cannot_be_had_is_tried_ever_more_slowly_and_then_left_to_another_node(node: Node) -> None:
    node.engine.missing_images = {"busybox:1"}
    told = assignment(spec=group(restart=policy(attempts=2, delay_ms=1000)))
    await node.take_set(told)
    await node.after(1.5)
    status = node.status(told)
    assert status is not None and status.phase == PREPARING
    assert status.tasks[0].message == "image busybox:1 is not on this node, and no registry answered"
    await node.after(2)
    status = node.status(told)
    assert status is not None and status.phase == FAILED
    assert status.message.endswith("no registry answered; tried again 2 times within 300 s")


async def test_an_image_that_comes_in_time_is_run(node: Node) -> None:
    node.engine.missing_images = {"busybox:1"}
    told = assignment(spec=group(restart=policy(attempts=2, delay_ms=1000)))
    await node.take_set(told)
    await node.after(0.5)
    node.engine.missing_images = set()
    await node.after(1)
    assert len(node.running()) == 1


async def test_what_no_retry_can_help_fails_at_once(node: Node) -> None:
    node.engine.fail = lambda launch: DriverError("command serve does not exist", retry=False)
    told = assignment()
    await node.take_set(told)
    status = node.status(told)
    assert status is not None and (status.phase, status.message) == (FAILED, "server: command serve does not exist")
    assert node.attachments.attached == set()


async def test_a_crash_is_told_and_restarted(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    node.engine.kill(run(told), 3)
    await node.settle()
    status = node.status(told)
    assert status is not None and (status.phase, status.health) == (RUNNING, UNHEALTHY)
    assert (status.tasks[0].state, status.tasks[0].exit_code) == ("backoff", 3)
    await node.after(1)
    assert node.running() == {run(told, 1)}
    status = node.status(told)
    assert status is not None and (status.health, status.tasks[0].restarts) == (HEALTHY, 1)


async def test_a_crash_loop_is_remembered_over_a_restart_of_the_agent(node: Node) -> None:
    told = assignment(spec=group(restart=policy(attempts=1)))
    await node.take_set(told)
    node.engine.kill(run(told))
    await node.after(1)
    await node.restart()
    assert node.running() == {run(told, 1)}
    node.engine.kill(run(told, 1))
    await node.settle()
    status = node.status(told)
    assert status is not None and status.phase == FAILED


async def test_while_the_engine_is_away_nothing_is_said_or_restarted(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    before = node.status(told)
    await node.host.outbox.next_batch()  # what has been told is remembered
    node.engine.away = True
    node.engine.kill(run(told))
    await node.after(30)
    await node.restart()
    await node.after(30)
    assert node.status(told) == before
    node.engine.away = False
    await node.after(6)
    await node.after(1)
    assert node.running() == {run(told, 1)}


async def test_what_is_assigned_while_the_engine_is_away_starts_when_it_is_back(node: Node) -> None:
    node.engine.away = True
    await node.restart()
    told = assignment()
    await node.take_set(told)
    await node.after(1)
    status = node.status(told)
    assert status is not None and (status.phase, status.message) == (PENDING, "the fake engine is away")
    node.engine.away = False
    await node.after(6)
    assert node.running() == {run(told)}


async def test_a_full_disk_starts_nothing_and_says_so_and_loses_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = assignment(0), assignment(1)
    await node.take_set(first)
    monkeypatch.setattr(node.host.journal, "_commit", lambda statements: JournalError("the node's disk is full"))
    taking = node.host.owner.start(node.take(second, assignment(0, stop=True)), "take")
    await node.settle()
    await node.after(1.1)
    assert node.running() == set()  # an end does not wait for the disk
    status = node.status(second)
    assert status is not None and (status.phase, status.message) == (PENDING, "the node's disk is full")
    assert not taking.done()
    monkeypatch.undo()
    await node.after(1)
    await taking
    assert node.running() == {run(second)}


async def test_a_new_version_with_the_same_tasks_restarts_nothing(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    changed = assignment(spec=group(restart=policy(attempts=9)))
    changed.version = 2
    await node.take(changed)
    assert node.engine.starts == 1
    status = node.status(told)
    assert status is not None and status.version == 2


async def test_the_grace_of_an_orphan_goes_on_over_restarts(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    await node.take_set()
    assert [orphan.alloc for orphan in node.allocations.orphans()] == [told.alloc]
    await node.after(GRACE_MS / 1000 - 1)
    await node.restart()
    await node.take_set()
    assert node.running() == {run(told)}
    await node.after(1)
    assert node.running() == set() and len(node.allocations) == 0


async def test_a_sets_silence_forgets_what_has_ended(node: Node) -> None:
    told = assignment()
    await node.take_set(told, assignment(1))
    await node.take(assignment(stop=True))
    assert len(node.allocations) == 2
    await node.take_set(assignment(1))
    assert len(node.allocations) == 1 and len(node.host.journal.memory.rows) == 0
    await node.restart()
    assert len(node.allocations) == 1


async def test_an_unacknowledged_status_outlives_the_agent(node: Node) -> None:
    told = assignment()
    await node.take_set(told)
    await node.host.journal.flush()
    status = node.status(told)
    await node.restart()
    batch = await node.host.outbox.next_batch()
    assert list(batch.statuses) == [status]
    node.host.outbox.acknowledged(batch.serial)
    await node.host.journal.flush()
    await node.restart()
    assert len(node.host.outbox) == 0
