"""A thin typed facade over one engine's API: one socket, pooled connections, threads of its own.

Each call is one request, pinned to one version of the API: the docker SDK's own helpers ask more than once where a
start must not, and cost twice the CPU a call (profiled: 0.7 ms against 0.35). What the SDK knows and nobody should
write again, credentials and their helpers for pulls, is taken from it, and it is imported no earlier. Answers become
values, or one of two errors: `EngineAway` (nobody answered, so nothing is known) and `Refused` (the engine said no,
and why).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlencode

from prometheus_client import Counter, Histogram
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from agent.drivers.docker_transport import Pool, Stream
from agent.drivers.protocol import EngineAway
from moorage.kit.tasks import Blocking
from moorage.kit.telemetry import LATENCY_BUCKETS

if TYPE_CHECKING:
    from docker.api.client import APIClient

P = ParamSpec("P")
T = TypeVar("T")

WANTED_API = (1, 41)  # what Debian 12's engine speaks; newer ones still do
_JSON = {"Content-Type": "application/json"}
_AWAY_SIGNS = (
    # The engine answers, but it is about to end, or its containerd has: as unknown as no answer.
    "error while dialing",
    "connection error: desc",
    "ttrpc: closed",
    "daemon is shutting down",
    "containerd.sock",
)

CALLS = Histogram("moor_engine_call_seconds", "Calls to the container engine", ["call"], buckets=LATENCY_BUCKETS)
FAILURES = Counter("moor_engine_failures_total", "Calls that the container engine refused or left", ["call"])


class Refused(Exception):
    """The engine's own answer: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Engine:
    """Calls block; `run` puts a function of them on this engine's threads. More than four in flight gain nothing."""

    def __init__(self, socket_path: str, *, threads: int = 4, timeout_s: float = 60.0) -> None:
        self.socket_path = socket_path
        self._timeout_s = timeout_s
        self._blocking = Blocking("docker", threads)
        self._slow = Blocking("docker-slow", 4 * threads)
        self._pool = Pool(socket_path, timeout_s, 2 * threads)
        self._base = ""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._blocking.call(function, *args, **kwargs)

    async def run_slow(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """For what waits for somebody else (a command in a container): never in the way of a start."""
        return await self._slow.call(function, *args, **kwargs)

    async def open(self, function: Callable[P, Stream], *args: P.args, **kwargs: P.kwargs) -> Stream:
        """Like `run`; a stream for which nobody waits any more is let go."""
        opening = _Opening()
        try:
            return await self.run(opening.keep, partial(function, *args, **kwargs))
        except asyncio.CancelledError:
            opening.abandon()
            raise

    def negotiate(self) -> None:
        """Settle on an API version once; again after a reconnect, since the engine may have been upgraded."""
        with translated("version"):
            version = json.loads(_checked(self._pool.urlopen("GET", "/version")).data)
        self._base = f"/v{choose_api(version['ApiVersion'], version.get('MinAPIVersion', '1.0'))}"

    def json(self, method: str, path: str, call: str, **request: Any) -> Any:
        """One request (`params`, `body`), its answer decoded; None for an empty one. `call` names it in metrics."""
        begun = time.perf_counter()
        try:
            with translated(call):
                data = _checked(self._pool.urlopen(*self._wire(method, path, **request))).data
                return json.loads(data) if data else None
        finally:
            CALLS.labels(call).observe(time.perf_counter() - begun)

    def stream(self, method: str, path: str, call: str, **request: Any) -> Stream:
        """One request whose answer is read as it comes, from a connection of its own."""
        with translated(call):
            stream = self._pool.open(*self._wire(method, path, **request))
            try:
                _checked(stream.response)
            except Refused:
                stream.release()
                raise
            return stream

    def sdk(self) -> APIClient:
        """The SDK's client, for what needs the node's credentials. Close it after use."""
        from docker.api.client import APIClient

        if not self._base:
            self.negotiate()
        return APIClient(f"unix://{self.socket_path}", version=self._base.removeprefix("/v"))

    def close(self) -> None:
        self._blocking.close()
        self._slow.close()
        self._pool.close()

    def _wire(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        body: object = None,
        data: bytes | None = None,
    ) -> tuple[str, str, bytes | None, Mapping[str, str] | None]:
        """What goes over the wire: method, URL, body and headers."""
        if not self._base:
            self.negotiate()
        url = f"{self._base}{path}?{urlencode(params)}" if params else self._base + path
        sent = json.dumps(body).encode() if body is not None else data
        return method, url, sent, _JSON if body is not None else None


class _Opening:
    """A stream between the thread that opens it and the task that wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._abandoned = False
        self._stream: Stream | None = None

    def keep(self, opened: Callable[[], Stream]) -> Stream:
        stream = opened()
        with self._lock:
            self._stream = stream
            if self._abandoned:
                stream.release()
        return stream

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._stream is not None:
                self._stream.release()


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn the transport's errors into ours."""
    try:
        yield
    except (HTTPError, OSError) as error:
        FAILURES.labels(call).inc()
        raise EngineAway(f"the container engine does not answer ({_root_cause(error)})") from error
    except Refused as error:
        raise _refusal(call, error.status, error.message) from None


def _refusal(call: str, status: int, message: str) -> Exception:
    FAILURES.labels(call).inc()
    if status >= 500 and any(sign in message.lower() for sign in _AWAY_SIGNS):
        return EngineAway(f"the container engine is restarting ({message})")
    return Refused(status, message)


def _checked(response: BaseHTTPResponse) -> BaseHTTPResponse:
    if response.status < 400:
        return response
    text = response.data.decode(errors="replace")
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip() or str(response.reason)
    raise Refused(response.status, message)


def choose_api(newest: str, oldest: str) -> str:
    """The wanted version, or the nearest that the engine speaks."""
    low, high = _version(oldest), _version(newest)
    major, minor = max(low, min(WANTED_API, high))
    return f"{major}.{minor}"


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _root_cause(error: BaseException) -> str:
    """The innermost reason; the outer ones only repeat it with addresses of objects in memory."""
    while isinstance(inner := error.__cause__ or error.__context__, BaseException):
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
