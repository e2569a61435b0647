"""What surrounds the store in memory: its leases, its backups, and the handles by which tests make trouble."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from controller.store.protocol import KeyValue
from moorage.kit.clock import Clock


@dataclass(slots=True)
class Lease:
    ttl_s: float
    until: float
    keys: set[str] = field(default_factory=set)
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backup: what there was at a revision, and which leases (their length, their keys)."""

    data: dict[str, KeyValue]
    revision: int
    leases: dict[int, tuple[float, frozenset[str]]]


class Inside(Protocol):
    """What trouble and keepers need of the store."""

    trouble: Trouble

    def lease(self, lease: int) -> Lease | None: ...

    def renew(self, lease: int) -> float: ...

    def expire(self, lease: int) -> None: ...

    def begin_anew(self) -> None: ...

    def backup(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...


class Trouble:
    """What can go wrong with a store: each of these happens to a real etcd."""

    def __init__(self, store: Inside) -> None:
        self._store = store
        self.away = False
        """No call is answered, no watch hears anything. Changed by `leave` and `come_back`."""
        self.lost_answers = 0
        """So many of the next commits take effect without saying so."""
        self.quota_bytes = math.inf
        """A write into a store that is larger raises the alarm."""
        self.leases_stalled = False
        """Leases that are kept are renewed no more, as by a stopped process."""

    def leave(self) -> None:
        self.away = True

    def come_back(self) -> None:
        self.away = False
        self.break_watches()

    def break_watches(self) -> None:
        """Every watcher gets a Reset next."""
        self._store.begin_anew()

    def snapshot(self) -> Snapshot:
        return self._store.backup()

    def restore(self, snapshot: Snapshot) -> None:
        """As from a backup file: revisions go back, watches break."""
        self._store.restore(snapshot)

    def expire(self, lease: int) -> None:
        """The lease has run out; its keys are gone."""
        self._store.expire(lease)


class MemoryLeaseKeeper:
    """Satisfies `LeaseKeeper` without a thread: a kept lease is renewed whenever somebody looks."""

    def __init__(self, store: Inside, lease: int, until: float, clock: Clock) -> None:
        self._store = store
        self._lease = lease
        self._until = until
        self._clock = clock
        if (found := store.lease(lease)) is not None:
            found.kept = True

    def until(self) -> float:
        now = self._clock.monotonic()
        if not self._renewing():
            if now >= self._until:
                self._until = -math.inf
        elif self._until > -math.inf:
            left = self._store.renew(self._lease)
            self._until = now + left if left > 0 else -math.inf
        return self._until

    def pulse(self) -> None:
        """No thread waits for it."""

    def close(self) -> None:
        if (found := self._store.lease(self._lease)) is not None:
            found.kept = False

    def _renewing(self) -> bool:
        return not (self._store.trouble.away or self._store.trouble.leases_stalled)
