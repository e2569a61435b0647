"""Statuses are judged, gathered and written in order; each is acknowledged only when it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from controller.cache import Cache
from controller.dispatcher.statuses import MAX_PUTS, WINDOW_S, Floor, Line, Outcome, StatusWriter, judge, take
from controller.leader import NotLeading
from controller.store.memory import MemoryStore
from controller.store.protocol import Committed, Guard, Operation, Put, StoreUnavailable
from moorage.kit.clock import ManualClock, SystemClock
from moorage.wire import keys
from moorage.wire.store_pb2 import FAILED, PREPARING, RUNNING, STOPPED, AllocStatus, NodeState, Phase
from tests.unit.cache.samples import alloc_status, key, put_alloc, put_status
from tests.unit.dispatcher.test_assignments import cache_of

CACHE: Cache = cache_of(put_alloc(key(0), "n1"), put_alloc(key(1), "n1"))
SEEN: Cache = cache_of(put_alloc(key(0), "n1"), put_status("n1", alloc_status(key(0), serial=5)))
ENDED: Cache = cache_of(put_alloc(key(0), "n1"), put_status("n1", alloc_status(key(0), STOPPED, serial=5)))


@pytest.mark.parametrize(
    ("cache", "node", "phase", "serial", "floor", "outcome"),
    [
        (CACHE, "n1", RUNNING, 1, None, "accepted"),
        (CACHE, "n2", RUNNING, 1, None, "foreign"),
        (CACHE, "n1", RUNNING, 1, Floor(1, False), "old"),
        (CACHE, "n1", RUNNING, 2, Floor(1, False), "accepted"),
        (CACHE, "n1", RUNNING, 2, Floor(1, True), "old"),
        (SEEN, "n1", PREPARING, 5, None, "old"),
        (SEEN, "n1", PREPARING, 6, None, "accepted"),
        (ENDED, "n1", RUNNING, 6, None, "old"),
        (ENDED, "n1", FAILED, 6, None, "old"),
    ],
)
def test_state_only_moves_forward(
    cache: Cache, node: str, phase: Phase.ValueType, serial: int, floor: Floor | None, outcome: Outcome
) -> None:
    alloc = key(0).id
    status = alloc_status(key(0), phase, serial=serial)
    assert judge(status, node, cache.alloc(alloc), cache.status(alloc), floor) == outcome


def test_an_allocation_that_the_store_does_not_know_is_told_apart() -> None:
    assert judge(alloc_status(key(9)), "n1", None, None, None) == "unknown"


class Session:
    """What a line tells its session."""

    def __init__(self, node: str, revision: int, epoch: int = 1) -> None:
        self.acknowledged: list[int] = []
        self.ended: list[str] = []
        self.line = Line(node, epoch, revision, self.acknowledged.extend, self.ended.append)

    def report(self, serial: int, *statuses: AllocStatus) -> Line:
        for status in statuses:
            self.line.accept(status)
        self.line.batches.append((serial, 0.0))
        return self.line


def test_only_the_newest_of_an_allocation_is_taken_and_batches_go_with_the_last() -> None:
    session = Session("n1", 1)
    session.report(1, alloc_status(key(0), PREPARING, serial=1))
    session.report(2, alloc_status(key(0), RUNNING, serial=2), *(alloc_status(key(n)) for n in range(1, MAX_PUTS + 5)))
    (first,) = take([session.line])
    assert (len(first.statuses), first.statuses[0].phase, first.batches) == (MAX_PUTS, RUNNING, [])
    (second,) = take([session.line])
    assert (len(second.statuses), [serial for serial, _ in second.batches]) == (5, [1, 2])
    assert take([session.line]) == []


def test_a_transaction_takes_from_many_nodes_but_not_from_busy_ones() -> None:
    sessions = [Session(f"n{n}", 1) for n in range(6)]
    for number, session in enumerate(sessions):
        session.report(1, *(alloc_status(key(number * 100 + n)) for n in range(30)))
    sessions[1].line.busy = True
    taken = [(part.line.node, len(part.statuses)) for part in take([session.line for session in sessions])]
    assert taken == [("n0", 30), ("n2", 30), ("n3", 30), ("n4", MAX_PUTS - 90)]


class Gate:
    """A store whose commits wait for a word, and may be told to fail."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.open = asyncio.Event()
        self.open.set()
        self.commits: list[int] = []
        self.errors: list[Exception] = []

    async def node(self, node: str, epoch: int = 1) -> int:
        put = Put(keys.node_state(node), NodeState(epoch=epoch).SerializeToString())
        return (await self.store.commit([], [put])).revision

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        self.commits.append(len(operations))
        await self.open.wait()
        if self.errors:
            raise self.errors.pop()
        return await self.store.commit(guards, operations)

    async def stored(self, node: str, index: int) -> AllocStatus | None:
        kv = await self.store.get(keys.status(node, key(index).id))
        return AllocStatus.FromString(kv.value) if kv else None


async def settle(writer: StatusWriter) -> None:
    writer.turn()
    await pause()


async def pause() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_acknowledged_is_what_is_stored() -> None:
    gate = Gate()
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    gate.open.clear()
    writer.add(session.report(7, alloc_status(key(0))))
    await settle(writer)
    assert gate.commits == [1] and session.acknowledged == []
    gate.open.set()
    await settle(writer)
    assert session.acknowledged == [7] and await gate.stored("n1", 0) == alloc_status(key(0))


async def test_what_comes_while_a_write_is_under_way_waits_its_turn_and_keeps_its_order() -> None:
    gate = Gate()
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    gate.open.clear()
    writer.add(session.report(1, alloc_status(key(0), PREPARING, serial=1)))
    await settle(writer)
    writer.add(session.report(2, alloc_status(key(0), RUNNING, serial=2)))
    session.report(3)
    await settle(writer)
    assert gate.commits == [1], "one transaction of a node at a time"
    gate.open.set()
    await settle(writer)
    assert session.acknowledged == [1]
    await settle(writer)
    assert session.acknowledged == [1, 2, 3]
    stored = await gate.stored("n1", 0)
    assert stored is not None and stored.phase == RUNNING


async def test_a_superseded_session_loses_its_part_and_the_others_of_the_transaction_go_on() -> None:
    gate = Gate()
    old = Session("n1", await gate.node("n1", epoch=1))
    same = Session("n2", await gate.node("n2", epoch=1))
    gone = Session("n3", 999)
    fine = Session("n4", await gate.node("n4", epoch=1))
    await gate.node("n1", epoch=2)
    await gate.node("n2", epoch=1)
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    for index, session in enumerate((old, same, gone, fine)):
        writer.add(session.report(1, alloc_status(key(index))))
    await settle(writer)
    assert (old.acknowledged, gone.acknowledged) == ([], [])
    assert "superseded by 2" in old.ended[0] and gone.ended
    assert await gate.stored("n1", 0) is await gate.stored("n3", 2) is None
    assert (same.acknowledged, fine.acknowledged, same.ended) == ([1], [1], [])
    assert await gate.stored("n2", 1) and await gate.stored("n4", 3)


async def test_a_store_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.dispatcher.statuses.RETRY_S", 0)
    gate = Gate()
    gate.errors = [StoreUnavailable("away"), StoreUnavailable("away")]
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    writer.add(session.report(1, alloc_status(key(0))))
    await settle(writer)
    assert session.acknowledged == [1] and gate.commits == [1, 1, 1]


async def test_after_the_leadership_nothing_is_written_or_acknowledged() -> None:
    gate = Gate()
    gate.errors = [NotLeading()]
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    writer.add(session.report(1, alloc_status(key(0))))
    await settle(writer)
    assert session.acknowledged == [] and gate.commits == [1]


async def test_what_waits_of_a_session_that_ended_is_not_written() -> None:
    gate = Gate()
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(SystemClock(), gate.commit, gate.store.get)
    writer.add(session.report(1, alloc_status(key(0))))
    writer.drop(session.line)
    await settle(writer)
    assert gate.commits == []


async def test_a_lonely_status_is_written_at_once_and_those_of_a_burst_together() -> None:
    gate, clock = Gate(), ManualClock()
    session = Session("n1", await gate.node("n1"))
    writer = StatusWriter(clock, gate.commit, gate.store.get)
    run = asyncio.create_task(writer.run())
    writer.add(session.report(0, alloc_status(key(0), serial=1)))
    await pause()
    assert gate.commits == [1], "without any time passing"
    for serial in range(1, 31):
        writer.add(session.report(serial, alloc_status(key(serial), serial=1)))
        await pause()
    assert gate.commits == [1]
    await clock.advance(WINDOW_S)
    await pause()
    assert gate.commits == [1, 30] and session.acknowledged == list(range(31))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await writer.close()
