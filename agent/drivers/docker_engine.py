"""A thin typed facade over the docker SDK's low-level client: one engine, one socket, threads of its own.

Of the SDK it uses the transport, connection pool and registry credentials; the calls themselves are one request each,
since the SDK's helpers ask more than once (an image, a tty) where a start must not. Answers become values, or one of
two errors: `EngineAway` (nobody answered, so nothing is known) and `Refused` (the engine said no, and why).
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import requests
import urllib3
from docker.api.client import APIClient
from docker.errors import APIError, DockerException
from prometheus_client import Counter, Histogram

from agent.drivers.docker_transport import Adapter
from agent.drivers.protocol import EngineAway
from moorage.kit.tasks import Blocking
from moorage.kit.telemetry import LATENCY_BUCKETS

P = ParamSpec("P")
T = TypeVar("T")

WANTED_API = (1, 41)  # what Debian 12's engine speaks; newer ones still do
_AWAY_SIGNS = (
    # The engine answers, but it is about to end, or its containerd has: as unknown as no answer.
    "error while dialing",
    "connection error: desc",
    "ttrpc: closed",
    "daemon is shutting down",
    "containerd.sock",
)

CALLS = Histogram("moorage_engine_call_seconds", "Calls to the container engine", ["call"], buckets=LATENCY_BUCKETS)
FAILURES = Counter("moorage_engine_failures_total", "Calls that the container engine refused or left", ["call"])


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
        self._threads = threads
        self._blocking = Blocking("docker", threads)
        self._slow = Blocking("docker-slow", threads)
        self._client: APIClient | None = None
        self._base = ""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._blocking.call(function, *args, **kwargs)

    async def run_slow(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """For what waits for somebody else (a command in a container): never in the way of a start."""
        return await self._slow.call(function, *args, **kwargs)

    def negotiate(self) -> None:
        """Settle on an API version once; again after a reconnect, since the engine may have been upgraded."""
        client = self._client or self._new_client()
        with translated("version"):
            version = _checked(client.get(f"{client.base_url}/version", timeout=self._timeout_s)).json()
        api = choose_api(version["ApiVersion"], version.get("MinAPIVersion", "1.0"))
        self._client, self._base = client, f"{client.base_url}/v{api}"

    def client(self) -> APIClient:
        if self._client is None:
            self.negotiate()
        assert self._client is not None
        return self._client

    def json(self, method: str, path: str, call: str, **kwargs: Any) -> Any:
        """One request, its answer decoded; None for an empty one."""
        begun = time.perf_counter()
        try:
            with translated(call), self._request(method, path, **kwargs) as response:
                return response.json() if response.content else None
        finally:
            CALLS.labels(call).observe(time.perf_counter() - begun)

    def stream(self, method: str, path: str, call: str, **kwargs: Any) -> Stream:
        """One request whose answer is read as it comes; without a time limit between two pieces."""
        with translated(call):
            return Stream(self._request(method, path, stream=True, **kwargs))

    def close(self) -> None:
        self._blocking.close()
        self._slow.close()
        if self._client is not None:
            self._client.close()

    def _request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        client = self.client()
        if "body" in kwargs:
            kwargs["data"] = json.dumps(kwargs.pop("body"))
            kwargs["headers"] = {"Content-Type": "application/json"}
        kwargs.setdefault("timeout", self._timeout_s)
        return _checked(client.request(method, self._base + path, **kwargs))

    def _new_client(self) -> APIClient:
        try:
            client = APIClient(f"unix://{self.socket_path}", version="1.41", timeout=int(self._timeout_s))
        except DockerException as error:
            raise EngineAway(f"the container engine does not answer: {error}") from error
        client.mount("http+docker://", Adapter(self.socket_path, int(self._timeout_s), pool_size=2 * self._threads))
        client.trust_env = False  # a proxy has no say on a unix socket, and looking for one costs on each call
        return client


class Stream:
    """An answer that is read piece by piece in one thread, and can be ended at once from any other."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._socket = _socket_of(response)
        if self._socket is not None:
            self._socket.settimeout(None)

    def lines(self) -> Iterator[bytes]:
        try:
            with translated("stream"):
                yield from self._response.iter_lines(chunk_size=None)
        finally:
            self.release()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(1 stdout | 2 stderr, data) of a multiplexed stream."""
        try:
            with translated("stream"):
                while len(header := self._read(8)) == 8:
                    channel, length = struct.unpack(">BxxxL", header)
                    yield channel, self._read(length)
        finally:
            self.release()

    def close(self) -> None:
        """Wakes a reader that waits."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the engine was faster
        else:
            self._response.close()

    def release(self) -> None:
        """By the reader, when it has done (or has not even begun)."""
        self._response.close()

    def _read(self, size: int) -> bytes:
        """Exactly that many bytes, or fewer at the end of the stream."""
        pieces: list[bytes] = []
        while size and (piece := self._response.raw.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn the SDK's and the transport's errors into ours."""
    try:
        yield
    except APIError as error:  # which is a RequestException as well
        raise _refusal(call, error.status_code or 500, str(error.explanation or error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        FAILURES.labels(call).inc()
        raise EngineAway(f"the container engine does not answer ({_root_cause(error)})") from error
    except DockerException as error:
        raise EngineAway(f"the container engine does not answer ({error})") from error
    except Refused as error:
        raise _refusal(call, error.status, error.message) from error.__cause__


def _refusal(call: str, status: int, message: str) -> Exception:
    FAILURES.labels(call).inc()
    if status >= 500 and any(sign in message.lower() for sign in _AWAY_SIGNS):
        return EngineAway(f"the container engine is restarting ({message})")
    return Refused(status, message)


def _checked(response: requests.Response) -> requests.Response:
    if response.status_code < 400:
        return response
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text.strip() or str(response.reason)
    raise Refused(response.status_code, message)


def choose_api(newest: str, oldest: str) -> str:
    """The wanted version, or the nearest that the engine speaks."""
    low, high = _version(oldest), _version(newest)
    major, minor = max(low, min(WANTED_API, high))
    return f"{major}.{minor}"


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _socket_of(response: requests.Response) -> socket.socket | None:
    reader = getattr(getattr(response.raw, "_fp", None), "fp", None)
    found = getattr(getattr(reader, "raw", None), "_sock", None)
    return found if isinstance(found, socket.socket) else None


def _root_cause(error: BaseException) -> str:
    """The innermost reason; the outer ones only repeat it with addresses of objects in memory."""
    while isinstance(inner := error.__cause__ or error.__context__, BaseException):
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
