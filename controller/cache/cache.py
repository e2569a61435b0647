"""The store as this controller last heard of it: fed by one watch, read without waiting.

One task follows the watch of everything. Each batch is applied as a whole between two turns of the event loop, so
readers always see the truth of one revision; then subscribers are told what differs. A Reset is compared with what is
known and told as ordinary changes, deletions included. Whoever wrote something and wants to read it back waits with
`passed(revision)`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial

import structlog
from google.protobuf.message import DecodeError

from controller.cache import metrics
from controller.cache.changes import Change, Subscriber
from controller.cache.entries import AllocEntry, JobEntry, NodeEntry, StatusEntry
from controller.cache.reservations import Reservations
from controller.cache.table import DecodedTable, RawTable, Table
from controller.cache.tables import (
    AllocTable,
    ArrivalTable,
    JobTable,
    NodeTable,
    StatusTable,
    VersionTable,
)
from controller.cache.versions import Versions
from controller.store.protocol import Batch, KeyValue, Reset, Store
from moorage.kit.clock import Clock
from moorage.model import JobVersion
from moorage.wire import keys
from moorage.wire.spec_pb2 import GroupSpec
from moorage.wire.store_pb2 import Cluster, Event, JobState, PlanMark, Request, Token
from scheduler.snapshot import Snapshot

log = structlog.get_logger()

RECENT = 1000
"""Of so many revisions a reset is compared by value, too."""

SLICE = 2000
"""So many changes are told at once: a Reset of a whole fleet is told in slices, after all of it has been applied."""


class Cache:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.synced = asyncio.Event()
        self.revision = 0
        self.went_back = ""
        """How the store's history was seen to go back, as by a restore below a living controller."""
        self._jobs = JobTable()
        self._nodes = NodeTable()
        self._allocs = AllocTable()
        self._statuses = StatusTable(self._allocs)
        self._versions = VersionTable()
        self._job_states = DecodedTable(JobState.FromString)
        self._tokens = DecodedTable(Token.FromString)
        self._requests = DecodedTable(Request.FromString)
        self._events = DecodedTable(Event.FromString)
        self._cluster = DecodedTable(Cluster.FromString)
        self._plans = DecodedTable(PlanMark.FromString)
        self._arrivals = ArrivalTable()
        self._tables: dict[str, Table] = {
            "alloc": self._allocs,
            "arrival": self._arrivals,
            "cluster": self._cluster,
            "event": self._events,
            "job": self._jobs,
            "jobstate": self._job_states,
            "jobver": self._versions,
            "node": self._nodes,
            "plan": self._plans,
            "request": self._requests,
            "status": self._statuses,
            "token": self._tokens,
        }
        self._compiled = Versions(self._versions)
        self._reservations = Reservations(self._allocs, self._statuses, self._nodes)
        self._subscribers: list[Subscriber] = []
        self._turned_back: list[Callable[[], None]] = []
        self._unreadable: set[str] = set()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._touched: set[str] | None = None  # keys that changed since a comparison with the store began

    async def run(self) -> None:
        """Follow the store for ever."""
        async with aclosing(self.store.watch(keys.ROOT)) as batches:
            async for batch in batches:
                self.apply(batch)

    def apply(self, batch: Batch) -> None:
        """One turn of `run`."""
        for changes in self._take(batch):
            self._tell(changes)
        self.synced.set()
        self._wake()

    def repair(self, puts: Iterable[KeyValue], deletes: Iterable[str]) -> int:
        """What the slow comparison found. Told as ordinary changes; returns how many."""
        changes = self._apply(puts, deletes)
        self._tell(changes)
        return len(changes)

    @contextmanager
    def touched(self) -> Iterator[set[str]]:
        """The keys that change while the context is open. One at a time."""
        touched: set[str] = set()
        self._touched = touched
        try:
            yield touched
        finally:
            self._touched = None

    async def passed(self, revision: int, timeout_s: float = 5.0) -> None:
        """Returns when the cache has reached a revision. Raises TimeoutError."""
        if self.revision >= revision:
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._order), waiter))
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise TimeoutError(
                f"the cache is at revision {self.revision}, waited {timeout_s:g} s for {revision}"
            ) from None

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call back once per batch, after it was applied. The result ends the subscription."""
        self._subscribers.append(callback)
        return partial(self._subscribers.remove, callback)

    def when_turned_back(self, callback: Callable[[], None]) -> None:
        """Call back when a reset shows that the store's history went back."""
        self._turned_back.append(callback)

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        return self._reservations.snapshot

    def get(self, key: str) -> KeyValue | None:
        return self.table(kind_of(key)).get(key)

    def job(self, project: str, name: str) -> JobEntry | None:
        return self._jobs.named(project, name)

    def job_by_uid(self, uid: str) -> JobEntry | None:
        return self._jobs.by_uid(uid)

    def jobs(self, project: str | None = None) -> Iterable[JobEntry]:
        return self._jobs.entries(project)

    def version(self, uid: str, number: int) -> JobVersion | None:
        return self._compiled.version(uid, number)

    def versions(self, uid: str) -> list[int]:
        """Numbers of the versions that are stored, oldest first."""
        return self._versions.numbers(uid)

    def why_unreadable(self, uid: str, number: int) -> str:
        """Why a version that is stored cannot be read, in the user's words; empty where it can, or is not there."""
        return self._compiled.why_unreadable(uid, number)

    def group_spec(self, uid: str, number: int, group: str) -> GroupSpec | None:
        return self._compiled.group_spec(uid, number, group)

    def group_spec_bytes(self, uid: str, number: int, group: str) -> bytes | None:
        return self._compiled.group_spec_bytes(uid, number, group)

    def alloc(self, alloc: str) -> AllocEntry | None:
        return self._allocs.by_id(alloc)

    def allocs(self) -> Iterable[AllocEntry]:
        return self._allocs.entries()

    def allocs_of_job(self, uid: str) -> Iterable[AllocEntry]:
        return self._allocs.of_job(uid)

    def allocs_of_node(self, node_id: str) -> Iterable[AllocEntry]:
        return self._allocs.of_node(node_id)

    def attempts_of_slot(self, slot: keys.Slot) -> Sequence[AllocEntry]:
        """All that are stored, oldest first."""
        return self._allocs.of_slot(*slot)

    def newest_of_slot(self, slot: keys.Slot) -> AllocEntry | None:
        attempts = self._allocs.of_slot(*slot)
        return attempts[-1] if attempts else None

    def status(self, alloc: str) -> StatusEntry | None:
        return self._statuses.of(alloc)

    def node(self, node_id: str) -> NodeEntry | None:
        return self._nodes.node(node_id)

    def nodes(self) -> Iterable[NodeEntry]:
        return self._nodes.entries()

    def node_by_name(self, name: str) -> NodeEntry | None:
        return self._nodes.by_name(name)

    def job_state(self, uid: str) -> JobState | None:
        return self._job_states.value(keys.job_state(uid))

    def plan_committed(self, plan_id: str) -> bool:
        """Plans of one transaction have no id and need no mark."""
        return not plan_id or self._plans.get(keys.plan(plan_id)) is not None

    def plans(self) -> list[str]:
        return [key[len(keys.PLANS) :] for key in self._plans.items]

    def plan(self, plan_id: str) -> PlanMark | None:
        return self._plans.value(keys.plan(plan_id))

    def requests(self) -> list[tuple[KeyValue, Request]]:
        return list(self._requests.values())

    def token(self, token_id: str) -> Token | None:
        return self._tokens.value(keys.token(token_id))

    def events(self, project: str | None = None) -> list[tuple[KeyValue, Event]]:
        """Oldest first."""
        found = sorted(self._events.values(), key=lambda one: one[0].key)
        return found if project is None else [(kv, event) for kv, event in found if event.project == project]

    def arrivals(self) -> Sequence[tuple[str, int]]:
        """Ids of the arrivals and the revisions that made them, oldest first."""
        return self._arrivals.ordered

    def left_out(self, prefix: str) -> bool:
        """Whether anything under a prefix could not be read: what seems not to be there may be."""
        return any(key.startswith(prefix) for key in self._unreadable)

    def event(self, key: str) -> Event | None:
        return self._events.value(key)

    def cluster(self) -> Cluster | None:
        return self._cluster.value(keys.CLUSTER)

    def table(self, kind: str) -> Table:
        """Kinds that this release does not know are kept as they are."""
        known = self._tables.get(kind)
        if known is None:
            known = self._tables[kind] = RawTable()
        return known

    # -- applying --------------------------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> Iterator[Sequence[Change]]:
        """All is applied, and the revision reached, before the first change is told."""
        if not isinstance(batch, Reset):
            told: Iterable[Sequence[Change]] = (self._apply(batch.puts, batch.deletes),)
        else:
            metrics.RESETS.inc()
            told = (self._reset(batch),) if self.synced.is_set() else self._first(batch)
        self.revision = batch.revision
        metrics.REVISION.set(batch.revision)
        metrics.ALLOCATIONS.set(len(self._allocs))
        return iter(told)

    def _first(self, batch: Reset) -> Iterator[Sequence[Change]]:
        """The first truth. Values are let go as they are taken over, so that a fleet is not held twice."""
        taken: list[str] = []
        batch.items.reverse()
        while batch.items:
            change = self._put(batch.items.pop())
            if change is not None:
                taken.append(change.key)
        slices = (taken[start : start + SLICE] for start in range(0, len(taken), SLICE))
        return ([Change(kind_of(key), key, None, self.get(key)) for key in part] for part in slices)

    def _reset(self, batch: Reset) -> list[Change]:
        """The differences between a new truth and what is known."""
        known = [self.table(kind_of(kv.key)).revision(kv.key) for kv in batch.items]
        self._compare_history(batch, known)
        present = {kv.key for kv in batch.items}
        gone = [key for table in self._tables.values() for key in table.keys() if key not in present]
        pairs = list(zip(batch.items, known, strict=True))
        differ = [kv for kv, old in pairs if old != kv.revision]
        recent = self.revision - RECENT
        other = [kv for kv, old in pairs if old == kv.revision > recent and self._other(kv)]
        changes = self._apply([*differ, *other], gone)
        if other or self.went_back:
            self._reservations.rebuild()
        return changes

    def _other(self, kv: KeyValue) -> bool:
        """Whether what is known of the same revision is something else: another history wrote it."""
        known = self.get(kv.key)
        return known is not None and known.value != kv.value

    def _compare_history(self, batch: Reset, known: Sequence[int]) -> None:
        """In one history neither the store's revision nor that of any key ever goes down."""
        if batch.revision < self.revision:
            what, before, now = "the store", self.revision, batch.revision
        else:
            down = ((kv, old) for kv, old in zip(batch.items, known, strict=True) if old > kv.revision)
            first = next(down, None)
            if first is None:
                return
            what, before, now = first[0].key, first[1], first[0].revision
        self.went_back = f"{what} went back from revision {before} to {now}"
        log.error("the store's history went back", what=what, known=before, revision=now)
        for callback in self._turned_back:
            callback()

    def _apply(self, puts: Iterable[KeyValue], deletes: Iterable[str]) -> list[Change]:
        found = [self._put(kv) for kv in puts]
        found += [self._delete(key) for key in deletes]
        return [change for change in found if change is not None]

    def _put(self, kv: KeyValue) -> Change | None:
        kind = kind_of(kv.key)
        try:
            old = self.table(kind).put(kv)
            self._reservations.put(kind, kv.key, replaced=old is not None)
        except (ValueError, DecodeError) as error:
            # One key that nobody can read must not stop the world.
            self._unreadable.add(kv.key)
            metrics.UNREADABLE.inc()
            log.error("a stored key cannot be read and is left out", key=kv.key, error=repr(error))
            return None
        if self._unreadable:
            self._unreadable.discard(kv.key)
        return self._noted(Change(kind, kv.key, old, kv))

    def _delete(self, key: str) -> Change | None:
        kind = kind_of(key)
        self._unreadable.discard(key)
        try:
            old = self.table(kind).delete(key)
        except ValueError:
            return None  # a key of a shape that no table took, either
        if old is None:
            return None
        self._reservations.deleted(kind, key)
        return self._noted(Change(kind, key, old, None))

    def _noted(self, change: Change) -> Change:
        if self._touched is not None:
            self._touched.add(change.key)
        return change

    def _tell(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        metrics.CHANGES.inc(len(changes))
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(changes)
            except Exception as error:  # one reader's trouble must not stop the others, nor the watch
                log.exception("a subscriber of the cache failed", error=repr(error))

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.revision:
            _, _, waiter = heapq.heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(None)


def kind_of(key: str) -> str:
    return key[len(keys.ROOT) :].partition("/")[0]
