"""Statuses on their way into the store: judged, gathered across sessions, written in guarded transactions.

State only moves forward: a status is accepted when it is about an allocation of that very node, its serial is above
everything known of that allocation, and what is known has not ended. Accepted ones wait, newest per allocation, until
a turn takes up to MAX_PUTS of them from as many nodes as it needs: at once when nothing was written lately, otherwise
after a short window. A node has at most one transaction in flight, which keeps its statuses in order.

Each transaction is guarded by the state of every node in it, so that a stream that was superseded overwrites nothing.
Where a guard fails the states are read again: a session whose epoch still stands goes on, any other is ended.
A batch is acknowledged once all of its statuses, or newer ones, are stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from controller.cache import AllocEntry, StatusEntry
from controller.cache.entries import TERMINAL
from controller.dispatcher import metrics
from controller.leader import NotLeading
from controller.store.protocol import Committed, Guard, KeyValue, Operation, Put, StoreError, Unchanged
from moorage.kit.clock import Clock
from moorage.kit.tasks import Owner
from moorage.wire import keys
from moorage.wire.store_pb2 import AllocStatus, NodeState

log = structlog.get_logger()

MAX_PUTS = 100
MAX_IN_FLIGHT = 4
WINDOW_S = 0.03
RETRY_S = 0.5

Outcome = Literal["accepted", "unknown", "foreign", "old"]


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest accepted of an allocation that the cache does not show yet."""

    serial: int
    ended: bool


def judge(
    status: AllocStatus, node: str, entry: AllocEntry | None, stored: StatusEntry | None, floor: Floor | None
) -> Outcome:
    if entry is None:
        return "unknown"
    if entry.node != node:
        return "foreign"
    if floor is not None and (floor.ended or status.serial <= floor.serial):
        return "old"
    if stored is not None and (stored.terminal or status.serial <= stored.serial):
        return "old"
    return "accepted"


@dataclass(slots=True)
class Line:
    """The statuses of one session that wait, and the batches that they came in."""

    node: str
    epoch: int
    state_revision: int
    acknowledge: Callable[[Sequence[int]], None]
    end: Callable[[str], None]
    pending: dict[str, AllocStatus] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    batches: list[tuple[int, float]] = field(default_factory=list)  # serial, when it came
    busy: bool = False
    closed: bool = False

    def accept(self, status: AllocStatus) -> None:
        self.pending[status.alloc] = status
        self.floors[status.alloc] = Floor(status.serial, status.phase in TERMINAL)

    def passed(self, alloc: str, serial: int) -> None:
        """The cache shows this one now."""
        floor = self.floors.get(alloc)
        if floor is not None and floor.serial <= serial:
            del self.floors[alloc]


@dataclass(slots=True)
class Taken:
    """A part of a transaction. `batches` are acknowledged with it: set only when the line was emptied."""

    line: Line
    statuses: list[AllocStatus]
    batches: list[tuple[int, float]]


def take(lines: Iterable[Line], limit: int = MAX_PUTS) -> list[Taken]:
    """What goes into the next transaction: in order of waiting, from lines that are not busy."""
    taken: list[Taken] = []
    for line in lines:
        if limit <= 0:
            break
        if line.busy or not line.pending:
            continue
        names = list(line.pending)[:limit]
        statuses = [line.pending.pop(name) for name in names]
        batches: list[tuple[int, float]] = []
        if not line.pending:
            batches, line.batches = line.batches, []
        taken.append(Taken(line, statuses, batches))
        limit -= len(statuses)
    return taken


Commit = Callable[[Sequence[Guard], Sequence[Operation]], Awaitable[Committed]]
Read = Callable[[str], Awaitable[KeyValue | None]]


class StatusWriter:
    def __init__(self, clock: Clock, commit: Commit, read: Read) -> None:
        self._clock = clock
        self._commit = commit
        self._read = read
        self._waiting: dict[int, Line] = {}
        self._in_flight = 0
        self._last_turn = float("-inf")
        self._wake = asyncio.Event()
        self._owner = Owner("statuses")

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            quiet = self._last_turn + WINDOW_S - self._clock.monotonic()
            if quiet > 0 and self.waiting < MAX_PUTS:
                await self._clock.sleep(quiet)
            self.turn()

    def turn(self) -> None:
        """Start as many transactions as there is work and room for."""
        while self._in_flight < MAX_IN_FLIGHT and (taken := take(self._waiting.values())):
            self._last_turn = self._clock.monotonic()
            self._in_flight += 1
            for part in taken:
                part.line.busy = True
                self._settle(part.line)
            self._owner.start(self._write(taken), "write")

    @property
    def waiting(self) -> int:
        return sum(len(line.pending) for line in self._waiting.values() if not line.busy)

    def add(self, line: Line) -> None:
        """The line has something pending."""
        self._waiting[id(line)] = line
        self._wake.set()

    def drop(self, line: Line) -> None:
        """Its session has ended: what waits is not written, the agent will send it again."""
        line.closed = True
        line.pending.clear()
        self._waiting.pop(id(line), None)

    async def close(self) -> None:
        await self._owner.close()

    def _settle(self, line: Line) -> None:
        """Keep in `waiting` exactly the lines that have something pending; at the end of the queue."""
        self._waiting.pop(id(line), None)
        if line.pending and not line.closed:
            self._waiting[id(line)] = line

    async def _write(self, taken: list[Taken]) -> None:
        try:
            while taken and not await self._written(taken):
                taken = await self._still_valid(taken)
        except NotLeading:
            return  # every session is ended anyway
        finally:
            self._in_flight -= 1
            for part in taken:
                part.line.busy = False
            if self._waiting:
                self._wake.set()

    async def _written(self, taken: list[Taken]) -> bool:
        guards = [Unchanged(keys.node_state(part.line.node), part.line.state_revision) for part in taken]
        puts = [
            Put(keys.status(part.line.node, status.alloc), status.SerializeToString())
            for part in taken
            for status in part.statuses
        ]
        while (committed := await self._try(guards, puts)) is None:
            await self._clock.sleep(RETRY_S)
            if all(part.line.closed for part in taken):
                return True  # nobody waits for it any more
        if not committed.ok:
            metrics.STATUS_CONFLICTS.inc()
            return False
        metrics.STATUSES.labels("stored").inc(len(puts))
        self._acknowledge(taken)
        return True

    async def _try(self, guards: Sequence[Guard], puts: Sequence[Operation]) -> Committed | None:
        """None where the store does not take it now. It may have: writing the same again does no harm."""
        try:
            return await self._commit(guards, puts)
        except StoreError as error:
            log.warning("statuses wait for the store", statuses=len(puts), error=str(error))
            return None

    def _acknowledge(self, taken: list[Taken]) -> None:
        now = self._clock.monotonic()
        for part in taken:
            line, batches = part.line, part.batches
            if not line.pending:  # what came meanwhile brought nothing new
                batches, line.batches = batches + line.batches, []
            for _, came in batches:
                metrics.STATUS_SECONDS.observe(now - came)
            if batches and not line.closed:
                line.acknowledge([serial for serial, _ in batches])

    async def _still_valid(self, taken: list[Taken]) -> list[Taken]:
        """After a conflict: the parts whose session still stands, with the revision that their node's state has now."""
        valid: list[Taken] = []
        for part in taken:
            kv = await self._reread(part.line.node)
            state = NodeState.FromString(kv.value) if kv else NodeState()
            if kv is None or state.epoch != part.line.epoch:
                part.line.busy = False
                part.line.end(f"session {part.line.epoch} was superseded by {state.epoch}")
                continue
            part.line.state_revision = kv.revision
            valid.append(part)
        return valid

    async def _reread(self, node: str) -> KeyValue | None:
        while True:
            try:
                return await self._read(keys.node_state(node))
            except StoreError:
                await self._clock.sleep(RETRY_S)
