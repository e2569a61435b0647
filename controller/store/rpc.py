"""A typed facade over aetcd's generated stubs: etcd's messages as far as we use them, errors as our own.

aetcd is untyped, and its own layer falls short where a control plane is strict (docs/adr/0001-aetcd-stubs.md), so
only its generated code is used, and only here. Every call has a deadline; every failure becomes a StoreError, or a
ValueError where etcd says that the request itself is wrong.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar, cast

import grpc
import grpc.aio
from aetcd import rpc as _pb

from controller.store.metrics import CALL_SECONDS, FAILURES
from controller.store.protocol import Compacted, LeaseGone, StoreError, StoreFull, StoreUnavailable

T = TypeVar("T")

pb: Any = _pb
"""Message constructors. Untyped: what comes back is described by the Protocols below."""

MAX_RECEIVE = 64 << 20

CHANNEL_OPTIONS: Sequence[tuple[str, int | str]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # etcd refuses pings more often than every 5 s. This also sets TCP_USER_TIMEOUT: a peer behind a cut wire is
    # given up, instead of waited for as long as TCP retransmits.
    ("grpc.keepalive_time_ms", 7000),
    ("grpc.keepalive_timeout_ms", 4000),
    # Several stores in one process (tests, a client beside the lease's thread) must not share one connection's fate.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class Header(Protocol):
    revision: int


class Kv(Protocol):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int


class RangeResponse(Protocol):
    header: Header
    kvs: Sequence[Kv]
    more: bool


class TxnResponse(Protocol):
    header: Header
    succeeded: bool


class Event(Protocol):
    type: int  # 0: put, 1: delete
    kv: Kv


class WatchResponse(Protocol):
    header: Header
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    fragment: bool
    events: Sequence[Event]


class LeaseResponse(Protocol):
    header: Header
    ID: int
    TTL: int


class StatusResponse(Protocol):
    header: Header
    version: str
    dbSize: int
    dbSizeInUse: int


class Alarm(Protocol):
    memberID: int
    alarm: int


class AlarmResponse(Protocol):
    alarms: Sequence[Alarm]


class WatchCall(Protocol):
    async def write(self, request: Any) -> None: ...

    async def read(self) -> WatchResponse | object: ...

    def cancel(self) -> bool: ...


EOF: object = grpc.aio.EOF


def target(endpoints: Sequence[str]) -> str:
    """gRPC's name for some endpoints ("http://10.0.0.1:2379", "host:2379"); several must be IPv4 addresses."""
    plain = [endpoint.split("://", 1)[-1].rstrip("/") for endpoint in endpoints]
    if not plain or not all(plain):
        raise ValueError("no etcd endpoint given")
    if len(plain) == 1:
        return plain[0]
    for endpoint in plain:
        ipaddress.IPv4Address(endpoint.rsplit(":", 1)[0])
    return "ipv4:" + ",".join(plain)


def translate(error: grpc.RpcError) -> Exception:
    """What a failed call means to us."""
    code, details = cast(Any, error).code(), cast(Any, error).details() or ""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "database space exceeded" in details:
        return StoreFull("etcd's space quota is used up")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return TooLarge(details)
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return Compacted(details)
    if code is grpc.StatusCode.NOT_FOUND and "lease" in details:
        return LeaseGone(details)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return ValueError(details)
    return StoreUnavailable(f"etcd does not answer: {code.name.lower().replace('_', ' ')}: {details}")


class TooLarge(StoreError):
    """The answer does not fit into one message: ask for less at a time."""


class Rpc:
    """One channel to etcd and its calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        kv, lease, maintenance = pb.KVStub(channel), pb.LeaseStub(channel), pb.MaintenanceStub(channel)
        self._range, self._txn, self._compact = (
            Call("range", kv.Range),
            Call("txn", kv.Txn),
            Call("compact", kv.Compact),
        )
        self._grant, self._revoke = Call("grant", lease.LeaseGrant), Call("revoke", lease.LeaseRevoke)
        self._status, self._alarm = Call("status", maintenance.Status), Call("alarm", maintenance.Alarm)
        self._defragment = Call("defragment", maintenance.Defragment)
        self._keep_alive = lease.LeaseKeepAlive
        self._watch = pb.WatchStub(channel).Watch

    async def close(self) -> None:
        await self._channel.close()

    async def range(self, request: Any, timeout: float) -> RangeResponse:
        return cast(RangeResponse, await self._range(request, timeout))

    async def txn(self, request: Any, timeout: float) -> TxnResponse:
        return cast(TxnResponse, await self._txn(request, timeout))

    async def compact(self, revision: int, timeout: float) -> None:
        await self._compact(pb.CompactionRequest(revision=revision, physical=True), timeout)

    async def grant(self, ttl_s: int, timeout: float) -> LeaseResponse:
        return cast(LeaseResponse, await self._grant(pb.LeaseGrantRequest(TTL=ttl_s), timeout))

    async def revoke(self, lease: int, timeout: float) -> None:
        await self._revoke(pb.LeaseRevokeRequest(ID=lease), timeout)

    async def keep_alive(self, lease: int, timeout: float) -> LeaseResponse:
        call = self._keep_alive(_one(pb.LeaseKeepAliveRequest(ID=lease)), timeout=timeout)
        try:
            answer = await call.read()
        except grpc.RpcError as error:
            raise translate(error) from None
        finally:
            call.cancel()
        if answer is EOF:
            raise StoreUnavailable("etcd does not answer: it ended a lease's stream")
        return cast(LeaseResponse, answer)

    async def status(self, timeout: float) -> StatusResponse:
        return cast(StatusResponse, await self._status(pb.StatusRequest(), timeout))

    async def alarms(self, timeout: float) -> AlarmResponse:
        return cast(AlarmResponse, await self._alarm(pb.AlarmRequest(action=0), timeout))

    async def disarm(self, alarm: Alarm, timeout: float) -> None:
        request = pb.AlarmRequest(action=2, memberID=alarm.memberID, alarm=alarm.alarm)
        await self._alarm(request, timeout)

    async def defragment(self, timeout: float) -> None:
        await self._defragment(pb.DefragmentRequest(), timeout)

    def watch(self) -> WatchCall:
        """A stream of watches. `hasleader`: a member that has lost its cluster ends it instead of going quiet."""
        return cast(WatchCall, self._watch(metadata=(("hasleader", "true"),)))


class Call:
    """One unary method, measured."""

    def __init__(self, name: str, method: Any) -> None:
        self._name = name
        self._method = method
        self._seconds = CALL_SECONDS.labels(name)

    async def __call__(self, request: Any, timeout: float) -> Any:
        with self._seconds.time():
            try:
                return await self._method(request, timeout=timeout)
            except grpc.RpcError as error:
                failure = translate(error)
                FAILURES.labels(self._name, type(failure).__name__).inc()
                raise failure from None


async def _one(request: T) -> AsyncIterator[T]:
    yield request
