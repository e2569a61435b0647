"""The store in memory: a maintained fake with etcd's history, guards, leases and gaps, and handles to cause trouble.

It keeps a log of all changes since the last compaction, and a watcher is a position in that log: a position that the
log no longer reaches (compaction), or that belongs to another history (restore, a broken watch), makes a Reset.
tests/contract/test_store.py holds it to what etcd does. What only tests do is in `trouble`.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left, insort
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from controller.store.limits import check_transaction
from controller.store.memory_lease import Lease, MemoryLeaseKeeper, Snapshot, Trouble
from controller.store.protocol import (
    Absent,
    Batch,
    Changes,
    Committed,
    CreatedAt,
    Guard,
    KeyValue,
    LeaseGone,
    LeaseKeeper,
    Listing,
    Operation,
    Put,
    Reset,
    StoreFull,
    StoreStatus,
    StoreUnavailable,
    Unchanged,
)
from moorage.kit.clock import Clock, SystemClock
from moorage.kit.tasks import Owner

ENTRY_BYTES = 100
"""What a key costs beside its name and value, roughly as in etcd."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One transaction's changes; None stands for a deletion."""

    number: int
    changes: dict[str, KeyValue | None]


class MemoryStore:
    """Satisfies `controller.store.protocol.Store`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.trouble = Trouble(self)
        self._clock = clock or SystemClock()
        self._data: dict[str, KeyValue] = {}
        self._keys: list[str] = []
        self._revision = 1
        self._compacted = 0
        self._log: deque[Revision] = deque()
        self._history = 0
        self._garbage_bytes = 0
        self._live_bytes = 0
        self._alarm = False
        self._leases: dict[int, Lease] = {}
        self._lease_of: dict[str, int] = {}
        self._lease_ids = itertools.count(1000)
        self._wake: set[asyncio.Event] = set()
        self._owner = Owner("memory-store")

    async def get(self, key: str) -> KeyValue | None:
        self._answer()
        return self._data.get(key)

    async def list(self, prefix: str) -> Listing:
        self._answer()
        return self._list(prefix)

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        check_transaction(guards, operations)
        self._answer()
        puts = [operation for operation in operations if isinstance(operation, Put)]
        if puts:
            self._check_room()
        if not all(map(self._holds, guards)):
            return Committed(False, self._revision)
        if any(put.lease and put.lease not in self._leases for put in puts):
            raise LeaseGone("requested lease not found")
        self._apply(operations)
        if self.trouble.lost_answers:
            self.trouble.lost_answers -= 1
            raise StoreUnavailable("the answer was lost")
        return Committed(True, self._revision)

    async def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        wake = asyncio.Event()
        self._wake.add(wake)
        history, position = -1, 0
        try:
            while True:
                wake.clear()
                if self.trouble.away:
                    history = -1
                elif history != self._history or position < self._compacted:
                    listing = self._list(prefix)
                    history, position = self._history, listing.revision
                    yield Reset(listing.items, listing.revision)
                    continue
                elif position < self._revision:
                    changes = self._changes_since(prefix, position)
                    position = changes.revision
                    yield changes
                    continue
                await wake.wait()
        finally:
            self._wake.discard(wake)

    async def grant(self, ttl_s: int) -> int:
        self._answer()
        if self._alarm:
            raise StoreFull("the space quota is used up")
        lease = next(self._lease_ids)
        self._leases[lease] = Lease(ttl_s, self._clock.monotonic() + ttl_s)
        self._owner.start(self._expiry(lease), f"lease-{lease}")
        return lease

    async def keep_alive(self, lease: int) -> float:
        self._answer()
        return self.renew(lease)

    async def revoke(self, lease: int) -> None:
        self._answer()
        self.expire(lease)

    def keep_lease(self, lease: int, *, ttl_s: float, renew_s: float, granted_at: float) -> LeaseKeeper:
        return MemoryLeaseKeeper(self, lease, granted_at + ttl_s, self._clock)

    async def compact(self, revision: int) -> None:
        self._answer()
        if revision > self._revision:
            raise ValueError(f"revision {revision} is in the future, the store is at {self._revision}")
        self._compacted = max(self._compacted, revision)
        while self._log and self._log[0].number <= self._compacted:
            self._log.popleft()

    async def defragment(self) -> None:
        self._answer()
        if not self._log:
            self._garbage_bytes = 0

    async def disarm(self) -> None:
        self._answer()
        self._alarm = False

    async def status(self) -> StoreStatus:
        self._answer()
        size = self._live_bytes + self._garbage_bytes
        return StoreStatus(self._revision, size, size if self._log else self._live_bytes, self._alarm, "memory")

    async def close(self) -> None:
        await self._owner.close()

    # What `trouble` and the lease's keeper do to it.

    def lease(self, lease: int) -> Lease | None:
        return self._leases.get(lease)

    def renew(self, lease: int) -> float:
        found = self._leases.get(lease)
        if found is None:
            return 0.0
        found.until = self._clock.monotonic() + found.ttl_s
        return found.ttl_s

    def expire(self, lease: int) -> None:
        if (found := self._leases.pop(lease, None)) is not None and found.keys:
            gone: dict[str, KeyValue | None] = dict.fromkeys(sorted(found.keys))
            self._write(gone)

    def begin_anew(self) -> None:
        self._history += 1
        self._tell()

    def backup(self) -> Snapshot:
        leases = {lease: (found.ttl_s, frozenset(found.keys)) for lease, found in self._leases.items()}
        return Snapshot(dict(self._data), self._revision, leases)

    def restore(self, snapshot: Snapshot) -> None:
        self._data = dict(snapshot.data)
        self._keys = sorted(self._data)
        self._revision = snapshot.revision
        self._compacted = min(self._compacted, snapshot.revision)
        self._live_bytes = sum(map(_size, self._data.values()))
        self._log.clear()
        self._restore_leases(snapshot)
        self.begin_anew()

    def _restore_leases(self, snapshot: Snapshot) -> None:
        """Leases are in a backup too, and have their whole time again; those that are kept still are."""
        old, self._leases = self._leases, {}
        self._lease_of = {}
        for lease, (ttl_s, lease_keys) in snapshot.leases.items():
            kept = lease in old and old[lease].kept
            self._leases[lease] = Lease(ttl_s, self._clock.monotonic() + ttl_s, set(lease_keys), kept)
            self._lease_of |= dict.fromkeys(lease_keys, lease)
            if lease not in old:
                self._owner.start(self._expiry(lease), f"lease-{lease}")

    def _answer(self) -> None:
        if self.trouble.away:
            raise StoreUnavailable("the store does not answer")

    def _holds(self, guard: Guard) -> bool:
        found = self._data.get(guard.key)
        match guard:
            case Absent():
                return found is None
            case Unchanged(_, revision):
                return (found.revision if found else 0) == revision
            case CreatedAt(_, revision):
                return (found.created if found else 0) == revision

    def _check_room(self) -> None:
        if self._live_bytes + self._garbage_bytes > self.trouble.quota_bytes:
            self._alarm = True
        if self._alarm:
            raise StoreFull("the space quota is used up")

    def _apply(self, operations: Sequence[Operation]) -> None:
        number = self._revision + 1
        changes: dict[str, KeyValue | None] = {}
        for operation in operations:
            old = self._data.get(operation.key)
            if isinstance(operation, Put):
                changes[operation.key] = KeyValue(
                    operation.key, operation.value, number, old.created if old else number
                )
                self._attach(operation.key, operation.lease)
            elif old is not None:
                changes[operation.key] = None
        if changes:
            self._write(changes)

    def _attach(self, key: str, lease: int) -> None:
        if (old := self._leases.get(self._lease_of.pop(key, 0))) is not None:
            old.keys.discard(key)
        if lease:
            self._lease_of[key] = lease
            self._leases[lease].keys.add(key)

    def _write(self, changes: dict[str, KeyValue | None]) -> None:
        self._revision += 1
        for key, value in changes.items():
            self._replace(key, value)
        self._log.append(Revision(self._revision, changes))
        self._tell()

    def _replace(self, key: str, value: KeyValue | None) -> None:
        old = self._data.pop(key, None)
        if old is not None:
            self._live_bytes -= _size(old)
            self._garbage_bytes += _size(old)
        if value is None:
            del self._keys[bisect_left(self._keys, key)]
            self._attach(key, 0)
            return
        if old is None:
            insort(self._keys, key)
        self._data[key] = value
        self._live_bytes += _size(value)

    def _list(self, prefix: str) -> Listing:
        start = bisect_left(self._keys, prefix)
        found = itertools.takewhile(lambda key: key.startswith(prefix), itertools.islice(self._keys, start, None))
        return Listing([self._data[key] for key in found], self._revision)

    def _changes_since(self, prefix: str, position: int) -> Changes:
        newest: dict[str, KeyValue | None] = {}
        first = self._log[0].number
        for revision in itertools.islice(self._log, position + 1 - first, None):
            for key, value in revision.changes.items():
                if key.startswith(prefix):
                    newest.pop(key, None)
                    newest[key] = value
        puts = [value for value in newest.values() if value is not None]
        deletes = [key for key, value in newest.items() if value is None]
        return Changes(puts, deletes, self._revision)

    def _tell(self) -> None:
        for wake in self._wake:
            wake.set()

    async def _expiry(self, lease: int) -> None:
        """Waits until the lease has run out. None runs out while the store is away, or is kept by a live process."""
        while (found := self._leases.get(lease)) is not None:
            if self.trouble.away or (found.kept and not self.trouble.leases_stalled):
                self.renew(lease)
            left = found.until - self._clock.monotonic()
            if left <= 0:
                self.expire(lease)
            else:
                await self._clock.sleep(left)


def _size(kv: KeyValue) -> int:
    return len(kv.key) + len(kv.value) + ENTRY_BYTES
