"""The store as the rest of the controller sees it: few operations, every write a guarded transaction.

`EtcdStore` is the real one, `MemoryStore` its maintained fake; tests/contract/test_store.py runs over both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_OPERATIONS = 128
"""etcd's default limit of compares, and of operations, in one transaction."""


class StoreError(Exception):
    """Base of what a store may raise."""


class StoreUnavailable(StoreError):
    """No answer (down, no quorum, timed out). Whether a write took effect is unknown: read before trying again."""


class Compacted(StoreError):
    """The asked revision is gone: read anew."""


class StoreFull(StoreError):
    """etcd's space quota is used up; writes are refused until space was freed and the alarm disarmed."""


class LeaseGone(StoreError):
    """The lease that a write wanted to hang on does not exist (any more): nothing was written."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: bytes
    revision: int  # of its last change
    created: int  # revision at which it came to be; 0 never occurs


@dataclass(frozen=True, slots=True)
class Listing:
    """What was under a prefix at one revision, in order of key."""

    items: list[KeyValue]
    revision: int


@dataclass(frozen=True, slots=True)
class Absent:
    """Holds where the key does not exist."""

    key: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Holds where the key's last change is this revision."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class CreatedAt:
    """Holds where the key exists and came to be at this revision (a leader's fence)."""

    key: str
    revision: int


Guard = Absent | Unchanged | CreatedAt


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0  # 0: none


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


Operation = Put | Delete


@dataclass(frozen=True, slots=True)
class Committed:
    """`ok` is False where a guard did not hold: nothing was written. `revision` is the store's after the answer;
    of a transaction that wrote something it is exactly the one of its writes."""

    ok: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The whole truth at `revision`: what is not in `items` does not exist (any more)."""

    items: list[KeyValue]
    revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that changed up to `revision` since the batch before; a revision is never split over two batches.

    A key occurs once, with its newest change, in `puts` or in `deletes` (deleted and made again: a put whose
    `created` is another).
    """

    puts: list[KeyValue]
    deletes: list[str]
    revision: int


Batch = Reset | Changes


@dataclass(frozen=True, slots=True)
class StoreStatus:
    revision: int
    size_bytes: int  # of the file, which the quota limits
    used_bytes: int  # of it; the rest is free for new data, or is given back by `defragment`
    quota_alarm: bool
    version: str


class LeaseKeeper(Protocol):
    """Keeps one lease alive from outside the event loop, so that a stalled loop does not let it run out."""

    def until(self) -> float:
        """The instant of the clock's `monotonic` before which the lease cannot have run out; -inf: it is lost."""
        ...

    def pulse(self) -> None:
        """The event loop is alive. A loop that has not said so for long loses the lease: it cannot lead."""
        ...

    def close(self) -> None:
        """Renew no more. Does not revoke."""
        ...


class Store(Protocol):
    async def get(self, key: str) -> KeyValue | None: ...

    async def list(self, prefix: str) -> Listing:
        """All under a prefix at one revision (paged underneath; linearizable)."""
        ...

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        """One transaction. Raises ValueError past MAX_OPERATIONS, StoreFull, StoreUnavailable."""
        ...

    def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        """First a Reset, then Changes; a Reset again after any gap (compaction, reconnect, restart of the store).

        Between Resets revisions only rise. Ends only by being closed; failures are waited out inside.
        A Changes with neither puts nor deletes is a note of progress: nothing happened up to `revision`.
        """
        ...

    async def grant(self, ttl_s: int) -> int:
        """A new lease's id."""
        ...

    async def keep_alive(self, lease: int) -> float:
        """Seconds that the lease has left; 0 or less: it is gone."""
        ...

    async def revoke(self, lease: int) -> None: ...

    def keep_lease(self, lease: int, *, ttl_s: float, renew_s: float, granted_at: float) -> LeaseKeeper:
        """Starts to renew a lease; `granted_at` is an instant of `monotonic` before `grant` was called."""
        ...

    async def compact(self, revision: int) -> None: ...

    async def defragment(self) -> None: ...

    async def disarm(self) -> None:
        """Take back a quota alarm, after space was freed."""
        ...

    async def status(self) -> StoreStatus: ...

    async def close(self) -> None: ...
