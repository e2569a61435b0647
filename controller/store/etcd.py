"""The real store: etcd over gRPC.

Reads are linearizable and paged at one revision, with pages that shrink where values are large; writes are one
transaction each, guarded. Nothing here retries a write: whether one without an answer took effect is for the caller
to find out. The watch is in etcd_watch.py, the lease's thread in etcd_lease.py, the messages in rpc.py.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence

import grpc.aio

from controller.store.etcd_lease import EtcdLeaseKeeper
from controller.store.etcd_watch import WatchTimings, watch
from controller.store.limits import check_transaction
from controller.store.protocol import (
    Absent,
    Batch,
    Committed,
    Compacted,
    Guard,
    KeyValue,
    LeaseGone,
    LeaseKeeper,
    Listing,
    Operation,
    Put,
    StoreStatus,
    Unchanged,
)
from controller.store.rpc import CHANNEL_OPTIONS, Kv, Rpc, TooLarge, pb, target

PAGE_KEYS = 5000
PAGE_BYTES = 4 << 20
FIRST_PAGE_KEYS = 500
LIST_TRIES = 3
DEFRAGMENT_TIMEOUT_S = 120.0
COMPACT_TIMEOUT_S = 60.0
NOSPACE = 1

_COMPARE = pb.Compare
_EQUAL, _BY_CREATE, _BY_CHANGE = 0, 1, 2


def key_value(kv: Kv) -> KeyValue:
    return KeyValue(kv.key.decode(), kv.value, kv.mod_revision, kv.create_revision)


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with the prefix. etcd's own word for "no end" is a zero byte."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"


def compare(guard: Guard) -> object:
    key = guard.key.encode()
    if isinstance(guard, Unchanged):
        return _COMPARE(key=key, result=_EQUAL, target=_BY_CHANGE, mod_revision=guard.revision)
    created = 0 if isinstance(guard, Absent) else guard.revision
    return _COMPARE(key=key, result=_EQUAL, target=_BY_CREATE, create_revision=created)


def request_op(operation: Operation) -> object:
    if isinstance(operation, Put):
        put = pb.PutRequest(key=operation.key.encode(), value=operation.value, lease=operation.lease)
        return pb.RequestOp(request_put=put)
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=operation.key.encode()))


class EtcdStore:
    """Satisfies `controller.store.protocol.Store`. Every call that has no answer within `timeout_s` fails."""

    def __init__(
        self,
        endpoint: str,
        credentials: grpc.ChannelCredentials | None,
        timeout_s: float,
        watch_timings: WatchTimings,
        monotonic: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._watch_timings = watch_timings
        self._monotonic = monotonic
        self._rpc = Rpc(self._channel())

    @classmethod
    async def connect(
        cls,
        endpoints: Sequence[str],
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 5.0,
        watch_timings: WatchTimings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> EtcdStore:
        """Returns at once, also where etcd is not there yet: calls say so themselves, watches wait."""
        return cls(target(endpoints), credentials, timeout_s, watch_timings or WatchTimings(), monotonic)

    async def get(self, key: str) -> KeyValue | None:
        answer = await self._rpc.range(pb.RangeRequest(key=key.encode()), self._timeout_s)
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> Listing:
        """Begins anew where the revision it reads at is compacted away, or undone by a restore, meanwhile."""
        for _ in range(LIST_TRIES - 1):
            try:
                return await self._list(prefix.encode())
            except Compacted:
                continue
        return await self._list(prefix.encode())

    async def _list(self, prefix: bytes) -> Listing:
        items: list[KeyValue] = []
        start, end, revision, limit = prefix or b"\0", prefix_end(prefix), 0, FIRST_PAGE_KEYS
        while True:
            request = pb.RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
            try:
                page = await self._rpc.range(request, self._timeout_s)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)
                continue
            revision = revision or page.header.revision
            items.extend([key_value(kv) for kv in page.kvs])
            if not page.more:
                return Listing(items, revision)
            start = page.kvs[-1].key + b"\0"
            limit = next_limit([kv.value for kv in page.kvs])

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        check_transaction(guards, operations)
        request = pb.TxnRequest(compare=map(compare, guards), success=map(request_op, operations))
        answer = await self._rpc.txn(request, self._timeout_s)
        return Committed(answer.succeeded, answer.header.revision)

    def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        encoded = prefix.encode()
        return watch(self._rpc, lambda: self.list(prefix), encoded, prefix_end(encoded), self._watch_timings)

    async def grant(self, ttl_s: int) -> int:
        return (await self._rpc.grant(ttl_s, self._timeout_s)).ID

    async def keep_alive(self, lease: int) -> float:
        return float((await self._rpc.keep_alive(lease, self._timeout_s)).TTL)

    async def revoke(self, lease: int) -> None:
        """A lease that is gone already is fine."""
        try:
            await self._rpc.revoke(lease, self._timeout_s)
        except LeaseGone:
            return

    def keep_lease(self, lease: int, *, ttl_s: float, renew_s: float, granted_at: float) -> LeaseKeeper:
        return EtcdLeaseKeeper(self._endpoint, self._credentials, lease, ttl_s, renew_s, granted_at, self._monotonic)

    async def compact(self, revision: int) -> None:
        """A revision that is compacted already is fine."""
        try:
            await self._rpc.compact(revision, COMPACT_TIMEOUT_S)
        except Compacted:
            return

    async def defragment(self) -> None:
        await self._rpc.defragment(DEFRAGMENT_TIMEOUT_S)

    async def disarm(self) -> None:
        for alarm in (await self._rpc.alarms(self._timeout_s)).alarms:
            if alarm.alarm == NOSPACE:
                await self._rpc.disarm(alarm, self._timeout_s)

    async def status(self) -> StoreStatus:
        status = await self._rpc.status(self._timeout_s)
        alarms = (await self._rpc.alarms(self._timeout_s)).alarms
        full = any(alarm.alarm == NOSPACE for alarm in alarms)
        return StoreStatus(status.header.revision, status.dbSize, status.dbSizeInUse, full, f"etcd {status.version}")

    async def close(self) -> None:
        await self._rpc.close()

    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._endpoint, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._endpoint, self._credentials, options=CHANNEL_OPTIONS)


def next_limit(values: Sequence[bytes]) -> int:
    """How many keys to ask for next, so that a page of such values stays near PAGE_BYTES."""
    average = sum(map(len, values)) // len(values) + 100
    return max(1, min(PAGE_KEYS, PAGE_BYTES // average))
