"""Carries out what was decided for one job: packs it into transactions, commits them, says what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from controller.cache import Cache, JobEntry
from controller.reconcile import metrics, steps
from controller.reconcile.planner import Work
from controller.reconcile.ports import Leadership
from controller.reconcile.read import Target
from controller.reconcile.steps import Stamp, Step, Transaction, pack
from controller.reconcile.values import Attempt
from controller.store.protocol import Delete, Operation, Put
from moorage.wire import keys
from moorage.wire.store_pb2 import Alloc, JobState

log = structlog.get_logger()

DELETES = 100
"""Keys that one transaction of a removal takes."""


@dataclass(slots=True)
class Outcome:
    """`revision` is what the cache must pass before the job is read again, conflicts included."""

    revision: int = 0
    committed: set[str] = field(default_factory=set)
    conflicts: int = 0
    errors: list[BaseException] = field(default_factory=list)


class Carrier:
    def __init__(self, cache: Cache, leader: Leadership, transactions: int) -> None:
        self._cache = cache
        self._leader = leader
        self._slots = asyncio.Semaphore(transactions)

    async def carry_out(self, work: Work, stamp: Stamp) -> Outcome:
        """Transactions are independent of one another: one that fails costs the others nothing."""
        common = steps.job_guards(work.target.entry)
        planned = [*pack(self._writes(work, stamp), common), *pack(self._removals(work), common)]
        return await self._all(planned)

    async def remove(self, target: Target) -> Outcome:
        """Every trace of a job of which nothing runs any more, its own key last, so that a crash is resumed."""
        guards = steps.job_guards(target.entry)
        doomed = list(self._traces(target))
        entry = target.entry
        if entry is not None:
            doomed.append(Delete(keys.job(entry.project, entry.name)))
        outcome = Outcome()
        for start in range(0, len(doomed), DELETES):
            part = doomed[start : start + DELETES]
            await self._commit(Transaction([], guards, part), outcome)
            if outcome.conflicts:
                break
        return outcome

    def _traces(self, target: Target) -> Iterator[Operation]:
        for attempt in target.view.attempts:
            yield Delete(attempt.key.key)
            yield Delete(keys.status(attempt.node, attempt.id))
        for number in self._cache.versions(target.uid):
            yield Delete(keys.job_version(target.uid, number))
        for kv, _ in self._cache.requests():
            if kv.key.startswith(keys.request(target.uid, "")):
                yield Delete(kv.key)
        if self._cache.job_state(target.uid) is not None:
            yield Delete(keys.job_state(target.uid))

    def _writes(self, work: Work, stamp: Stamp) -> Iterator[Step]:
        target, record = work.target, self._record
        found: list[Step | None] = [steps.stop(one, record, stamp) for one in work.decision.stop]
        found.extend(steps.update(one, target.view.version, record, stamp) for one in work.decision.update)
        # By node: each transaction then concerns few of them, which hear of it in one message.
        for one in sorted(work.placed, key=lambda placed: placed.placement.node):
            assert target.compiled is not None
            wants = target.compiled.resources[one.place.key.group]
            found.append(steps.place(one.place, one.placement, one.node_guard, target, wants, record, stamp))
        yield from (step for step in found if step is not None)

    def _removals(self, work: Work) -> Iterable[Step]:
        nodes = work.target.view.nodes
        return [steps.collect(one, one.node not in nodes) for one in work.decision.collect]

    def _record(self, attempt: Attempt) -> Alloc | None:
        entry = self._cache.alloc(attempt.id)
        return entry.decode() if entry is not None else None

    async def _all(self, planned: Sequence[Transaction]) -> Outcome:
        outcome = Outcome()
        results = await asyncio.gather(*(self._commit(one, outcome) for one in planned), return_exceptions=True)
        outcome.errors.extend(one for one in results if isinstance(one, BaseException))
        return outcome

    async def _commit(self, transaction: Transaction, outcome: Outcome) -> None:
        async with self._slots:
            with metrics.COMMITS.time():
                committed = await self._leader.commit(transaction.guards, transaction.operations)
        outcome.revision = max(outcome.revision, committed.revision)
        if committed.ok:
            outcome.committed.update(transaction.allocs)
        else:
            outcome.conflicts += 1
            metrics.CONFLICTS.inc()

    async def save_state(self, uid: str, entry: JobEntry | None, state: JobState) -> Outcome:
        """Never brings a job's state back that was removed with the job."""
        key = keys.job_state(uid)
        kv = self._cache.get(key)
        guards = [*steps.job_guards(entry), steps.unchanged(key, kv.revision if kv is not None else 0)]
        outcome = Outcome()
        await self._commit(Transaction([], guards, [Put(key, state.SerializeToString())]), outcome)
        return outcome

    async def complain(self, entry: JobEntry, message: str) -> bool:
        """Say in a job's state what keeps it from being worked on; whether that was news."""
        state = JobState()
        state.CopyFrom(self._cache.job_state(entry.uid) or JobState())
        if state.message == message:
            return False
        state.message = message
        outcome = await self.save_state(entry.uid, entry, state)
        await self._cache.passed(outcome.revision)
        return not outcome.conflicts
