"""Decisions as guarded writes, packed into transactions. Pure: values in, values out.

A step is the smallest thing that must happen whole: a new attempt together with the stop mark on the one it replaces,
a stop, an update, the removal of a record with its status. Steps of a service job need not happen together, since
each leaves the job closer to what it wants, whichever others succeed (docs/adr/0003-plan-marks.md), so they are packed
as they come, and a conflict costs only its own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from controller.cache import JobEntry
from controller.reconcile.read import Target
from controller.reconcile.values import Attempt, Place, Stop
from controller.store.protocol import MAX_OPERATIONS, Absent, Delete, Guard, Operation, Put, Unchanged
from moorage.wire import keys
from moorage.wire.spec_pb2 import Resources
from moorage.wire.store_pb2 import Alloc
from scheduler.types import Placement

MAX_STEPS = 100
_ROOM = MAX_OPERATIONS - 4
"""Compares that are left for steps beside the fence and the job."""

Record = Callable[[Attempt], Alloc | None]
"""An allocation's whole message, unknown fields included; None: it is gone."""


@dataclass(frozen=True, slots=True)
class Step:
    alloc: str
    guards: Sequence[Guard]
    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Transaction:
    allocs: Sequence[str]
    guards: Sequence[Guard]
    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who writes, and when."""

    term: str
    now_ms: int


def job_guards(entry: JobEntry | None) -> list[Guard]:
    """Nothing is written for a job that has changed since it was read."""
    return [Unchanged(keys.job(entry.project, entry.name), entry.revision)] if entry is not None else []


def unchanged(key: str, revision: int) -> Guard:
    """Revision 0: there is no such key."""
    return Unchanged(key, revision) if revision else Absent(key)


def stop(decided: Stop, record: Record, stamp: Stamp) -> Step | None:
    message = record(decided.attempt)
    if message is None:
        return None
    return _rewrite(decided.attempt, _stopped(message, decided.reason, stamp), stamp)


def update(attempt: Attempt, version: int, record: Record, stamp: Stamp) -> Step | None:
    message = record(attempt)
    if message is None:
        return None
    message.version = version
    return _rewrite(attempt, message, stamp)


def collect(attempt: Attempt, forgotten: bool) -> Step:
    """Deletions only: they are possible even when the store is full."""
    guards: list[Guard] = [Unchanged(attempt.key.key, attempt.revision)]
    if forgotten:
        guards.append(Absent(keys.node_state(attempt.node)))
    return Step(attempt.id, guards, [Delete(attempt.key.key), Delete(keys.status(attempt.node, attempt.id))])


def place(
    decided: Place,
    placement: Placement,
    node_guard: Guard,
    target: Target,
    resources: Resources,
    record: Record,
    stamp: Stamp,
) -> Step | None:
    """A new attempt; what it replaces can never run beside it from the same instant on."""
    compiled = target.compiled
    assert compiled is not None
    message = Alloc(
        project=target.project,
        job=target.name,
        node=placement.node,
        version=compiled.version,
        template_hash=compiled.policies[decided.key.group].template_hash,
        ports=placement.ports,
        why=placement.why,
        created_ms=stamp.now_ms,
        resources=resources,
        term=stamp.term,
        failures=decided.failures,
    )
    guards: list[Guard] = [Absent(decided.key.key), node_guard]
    operations: list[Operation] = [Put(decided.key.key, message.SerializeToString())]
    old = decided.replaces
    if old is None:
        return Step(decided.key.id, guards, operations)
    guards.extend(_still_so(decided, old, target))
    if not old.stop:
        before = record(old)
        if before is None:
            return None
        operations.append(Put(old.key.key, _stopped(before, decided.because, stamp).SerializeToString()))
    return Step(decided.key.id, guards, operations)


def _still_so(decided: Place, old: Attempt, target: Target) -> Iterator[Guard]:
    """What the replacement rests on. An end that was reported cannot be taken back; absence and loss can."""
    yield Unchanged(old.key.key, old.revision)
    if decided.lost:
        yield Unchanged(keys.node_state(old.node), target.view.nodes[old.node].state_revision)
    elif old.node not in target.view.nodes:
        yield Absent(keys.node_state(old.node))
    if old.abandoned:
        yield Absent(keys.plan(old.abandoned))


def _rewrite(attempt: Attempt, message: Alloc, stamp: Stamp) -> Step:
    message.term = stamp.term
    key = attempt.key.key
    return Step(attempt.id, [Unchanged(key, attempt.revision)], [Put(key, message.SerializeToString())])


def _stopped(message: Alloc, reason: str, stamp: Stamp) -> Alloc:
    message.stop = True
    message.stop_reason = reason
    message.stop_ms = stamp.now_ms
    return message


def pack(steps: Iterable[Step], common: Sequence[Guard]) -> list[Transaction]:
    """As few transactions as etcd's limits and MAX_STEPS allow, in order; guards that several steps share once."""
    packed: list[Transaction] = []
    allocs: list[str] = []
    guards: dict[Guard, None] = {}
    operations: list[Operation] = []
    room = _ROOM - len(common)
    for step in steps:
        fresh = [guard for guard in step.guards if guard not in guards]
        full = len(guards) + len(fresh) > room or len(operations) + len(step.operations) > _ROOM
        if allocs and (full or len(allocs) >= MAX_STEPS):
            packed.append(Transaction(allocs, [*common, *guards], operations))
            allocs, guards, operations, fresh = [], {}, [], list(step.guards)
        allocs.append(step.alloc)
        guards.update(dict.fromkeys(fresh))
        operations.extend(step.operations)
    if allocs:
        packed.append(Transaction(allocs, [*common, *guards], operations))
    return packed
