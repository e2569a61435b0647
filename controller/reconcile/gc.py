"""Removes what nothing needs any more, a bounded number of keys at a time.

A job's own turn removes its finished allocations; here goes what no job's turn meets: statuses that a node sent after
their allocation was gone, versions that are old and not in use, events, marks of plans and of arrivals. Suspects are
gathered from changes, and everything is looked through at the beginning of a leadership and now and then. Keys of dead
controllers go by themselves, with their leases. Transactions hold deletions only, which a full store still takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.cache import Cache
from controller.reconcile import metrics
from controller.reconcile.ports import Leadership
from controller.reconcile.routes import Routed
from controller.reconcile.settings import ReconcileSettings
from controller.store.protocol import Delete, Guard, Unchanged
from moorage.kit.clock import Clock
from moorage.wire import keys

BATCH = 100
PLAN_AGE_MS = 600_000
KEPT_ARRIVALS = 256
"""Agents that have seen nothing of so many starts of controllers are believed whatever they have seen."""

Doomed = tuple[str, int]
"""A key, and the revision at which it was found useless."""


class Collector:
    def __init__(self, cache: Cache, leader: Leadership, clock: Clock, settings: ReconcileSettings) -> None:
        self._cache = cache
        self._leader = leader
        self._clock = clock
        self._settings = settings
        self._statuses: dict[str, None] = {}
        self._versions: dict[str, None] = {}
        self._next_scan = clock.monotonic() + settings.scan_s

    def suspect(self, routed: Routed) -> None:
        self._statuses.update(dict.fromkeys(routed.orphans))
        self._versions.update(dict.fromkeys(routed.versions))

    def scan(self) -> set[str]:
        """Look at everything. Returns the jobs that are gone but have left a state, for a turn of their own."""
        self._next_scan = self._clock.monotonic() + self._settings.scan_s
        for key in self._cache.table("status").keys():
            if self._cache.alloc(key.rpartition("/")[2]) is None:
                self._statuses[key] = None
        for key in self._cache.table("jobver").keys():
            self._versions[key[len(keys.JOB_VERSIONS) :].partition("/")[0]] = None
        states = (key[len(keys.JOB_STATES) :] for key in self._cache.table("jobstate").keys())
        return {uid for uid in states if self._cache.job_by_uid(uid) is None}

    async def turn(self) -> set[str]:
        """As `scan`, when its time has come."""
        left: set[str] = set()
        if self._clock.monotonic() >= self._next_scan:
            left = self.scan()
        doomed = [one for _, one in zip(range(self._settings.collect_bound), self._doomed(), strict=False)]
        for start in range(0, len(doomed), BATCH):
            await self._remove(doomed[start : start + BATCH])
        return left

    async def _remove(self, doomed: list[Doomed]) -> None:
        """One that has changed meanwhile spoils it for all; they, and those without an answer, come again."""
        guards: list[Guard] = [Unchanged(key, revision) for key, revision in doomed]
        ok = False
        try:
            committed = await self._leader.commit(guards, [Delete(key) for key, _ in doomed])
            ok = committed.ok
        finally:
            if not ok:
                self._suspect_again(doomed)
        if ok:
            metrics.COLLECTED.inc(len(doomed))
        await self._cache.passed(committed.revision)

    def _suspect_again(self, doomed: list[Doomed]) -> None:
        for key, _ in doomed:
            if key.startswith(keys.STATUSES):
                self._statuses[key] = None
            elif key.startswith(keys.JOB_VERSIONS):
                self._versions[key[len(keys.JOB_VERSIONS) :].partition("/")[0]] = None

    def _doomed(self) -> Iterator[Doomed]:
        yield from self._useless_statuses()
        yield from self._old_versions()
        yield from self._old_events()
        yield from self._old_plans()
        yield from self._old_arrivals()

    def _useless_statuses(self) -> Iterator[Doomed]:
        """Each is judged once: one whose removal conflicts has changed, and so is suspected anew."""
        while self._statuses:
            key, _ = self._statuses.popitem()
            if self._cache.alloc(key.rpartition("/")[2]) is None:
                yield from self._found("status", key)

    def _old_versions(self) -> Iterator[Doomed]:
        while self._versions:
            uid, _ = self._versions.popitem()
            job, allocs = self._cache.job_by_uid(uid), self._cache.allocs_of_job(uid)
            stored = self._cache.versions(uid)
            if job is None:
                doomed = [] if allocs or self._cache.left_out(keys.JOBS) else stored
            else:
                used = {job.version, *(alloc.version for alloc in allocs)}
                doomed = [number for number in stored[: -self._settings.keep_versions] if number not in used]
            for number in doomed:
                yield from self._found("jobver", keys.job_version(uid, number))

    def _old_events(self) -> Iterator[Doomed]:
        """Their keys begin with their time."""
        horizon = self._clock.now_ms() - int(self._settings.keep_finished_s * 1000)
        stored = sorted(self._cache.table("event").keys())
        many = len(stored) - self._settings.keep_events
        oldest = keys.event(f"{horizon:013d}")
        for number, key in enumerate(stored):
            if number >= many and key >= oldest:
                return
            yield from self._found("event", key)

    def _old_plans(self) -> Iterator[Doomed]:
        plans = self._cache.plans()
        if not plans:
            return
        used = {alloc.plan for alloc in self._cache.allocs()}
        horizon = self._clock.now_ms() - PLAN_AGE_MS
        for plan in plans:
            mark = self._cache.plan(plan)
            if plan not in used and (mark is None or mark.created_ms < horizon):
                yield from self._found("plan", keys.plan(plan))

    def _old_arrivals(self) -> Iterator[Doomed]:
        for arrival, _ in self._cache.arrivals()[:-KEPT_ARRIVALS]:
            yield from self._found("arrival", keys.arrival(arrival))

    def _found(self, kind: str, key: str) -> Iterator[Doomed]:
        revision = self._cache.table(kind).revision(key)
        if revision:
            yield key, revision
