"""A lease kept alive by a thread with a channel of its own, so that a stalled event loop does not lose it.

The other way round, a thread that renews for a loop that hangs for good would keep a dead leader in office: the loop
has to say that it lives (`pulse`). And a process that was stopped (SIGSTOP, a paused VM) must not renew what may have
run out meanwhile: each renewal counts from before it was sent, and once that has passed the lease is lost for good.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from controller.store.rpc import CHANNEL_OPTIONS, pb

SAFETY = 0.1
"""The part of the lease that we do not count on: clocks that run at different speeds, an answer read late."""

PATIENCE = 3.0
"""After how many times the lease's length without a pulse the event loop counts as hung."""


class Renewal(Protocol):
    """Blocking. Returns the seconds left; 0 or less: gone. Raises OSError for no answer."""

    def __call__(self, timeout_s: float) -> float: ...


class LeaseLoop:
    """What the thread knows, and one turn of its loop; without the thread, so that tests call it directly."""

    def __init__(
        self, renew: Renewal, ttl_s: float, renew_s: float, granted_at: float, monotonic: Callable[[], float]
    ) -> None:
        self._renew = renew
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._monotonic = monotonic
        self._pulse = monotonic()
        self._until = granted_at + ttl_s * (1 - SAFETY)

    def until(self) -> float:
        return self._until

    def pulse(self) -> None:
        self._pulse = self._monotonic()

    def turn(self) -> float | None:
        """Renew once. Returns the pause before the next turn, None: the lease is lost."""
        sent = self._monotonic()
        if sent >= self._until or sent - self._pulse > PATIENCE * self._ttl_s:
            return self._lose()
        try:
            left = self._renew(min(self._renew_s, self._until - sent))
        except OSError:
            return min(self._renew_s, 0.2)
        if left <= 0 or self._monotonic() >= self._until:
            return self._lose()
        self._until = sent + min(left, self._ttl_s) * (1 - SAFETY)
        return self._renew_s

    def _lose(self) -> float | None:
        self._until = -math.inf
        return None


class EtcdLeaseKeeper:
    """Satisfies `controller.store.protocol.LeaseKeeper`."""

    def __init__(
        self,
        endpoint: str,
        credentials: grpc.ChannelCredentials | None,
        lease: int,
        ttl_s: float,
        renew_s: float,
        granted_at: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._channel = open_channel(endpoint, credentials)
        self._renewals = pb.LeaseStub(self._channel).LeaseKeepAlive
        self._lease = lease
        self._loop = LeaseLoop(self._renew, ttl_s, renew_s, granted_at, monotonic)
        self._closed = threading.Event()
        self.until = self._loop.until
        self.pulse = self._loop.pulse
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        pause: float | None = 0.0
        while pause is not None and not self._closed.wait(pause):
            pause = self._loop.turn()
        self._channel.close()

    def _renew(self, timeout_s: float) -> float:
        call: Any = self._renewals(iter([pb.LeaseKeepAliveRequest(ID=self._lease)]), timeout=timeout_s)
        try:
            answer = next(call)
        except (grpc.RpcError, StopIteration) as error:
            raise ConnectionError("etcd does not answer") from error
        finally:
            with contextlib.suppress(grpc.RpcError):
                call.cancel()
        return float(answer.TTL)


def open_channel(endpoint: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)
