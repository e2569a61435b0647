"""Health checks: one quiet loop per checked task, its verdict, and the three ways to ask.

A task counts as healthy from its first success, and as unhealthy after `failures` failures in a row once its start
grace is over; until the first success it is asked more often, so that a rollout does not wait for a long interval.
Intervals are jittered, or a node's hundreds of checks would all fire together. A probe costs a socket and two
messages; the socket is opened inside the group's namespace. An engine that is away proves nothing about a task.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from socket import socket

from agent.drivers.protocol import DriverError, EngineAway
from moorage.kit.clock import Clock
from moorage.wire.spec_pb2 import HealthCheck
from moorage.wire.store_pb2 import HEALTH_UNKNOWN, HEALTHY, UNHEALTHY, Health

EAGER_MS = 250
OpenSocket = Callable[[], Awaitable[socket]]
RunCommand = Callable[[list[str], float], Awaitable[tuple[int, bytes]]]


class ProbeFailed(Exception):
    """Why, in the user's words."""


@dataclass(slots=True)
class Verdict:
    health: Health.ValueType = HEALTH_UNKNOWN
    failures: int = 0
    why: str = ""

    def passed(self) -> None:
        self.health, self.failures, self.why = HEALTHY, 0, ""

    def failed(self, why: str, *, limit: int, in_grace: bool) -> None:
        self.why = why
        if in_grace and self.health == HEALTH_UNKNOWN:
            return
        self.failures += 1
        if self.failures >= max(limit, 1):
            self.health = UNHEALTHY


async def watch(
    check: HealthCheck,
    probe: Callable[[], Awaitable[None]],
    clock: Clock,
    rng: random.Random,
    tell: Callable[[Verdict], None],
    verdict: Verdict,
) -> None:
    """Ask until cancelled; `tell` hears of each change of health."""
    grace_until = clock.monotonic() + check.start_ms / 1000
    await clock.sleep(rng.random() * min(check.interval_ms, EAGER_MS) / 1000)
    while verdict.health != UNHEALTHY:
        before = verdict.health
        await _ask(check, probe, verdict, in_grace=clock.monotonic() < grace_until)
        if verdict.health != before:
            tell(verdict)
        await clock.sleep(pause_s(check, verdict, rng))


def pause_s(check: HealthCheck, verdict: Verdict, rng: random.Random) -> float:
    interval = check.interval_ms if verdict.health == HEALTHY else min(check.interval_ms, 4 * EAGER_MS)
    if verdict.health == HEALTH_UNKNOWN and verdict.failures == 0:
        interval = min(check.interval_ms, EAGER_MS)
    return max(interval, 1) / 1000 * (0.9 + 0.2 * rng.random())


async def _ask(check: HealthCheck, probe: Callable[[], Awaitable[None]], verdict: Verdict, *, in_grace: bool) -> None:
    try:
        await probe()
    except EngineAway:
        return
    except (ProbeFailed, OSError, DriverError) as error:
        verdict.failed(str(error), limit=check.failures, in_grace=in_grace)
    else:
        verdict.passed()


async def within(timeout_ms: int, probe: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            await probe()
    except TimeoutError:
        raise ProbeFailed(f"no answer within {timeout_ms} ms") from None


async def tcp(open_socket: OpenSocket, port: int) -> None:
    (await _connect(open_socket, port)).close()


async def http(open_socket: OpenSocket, port: int, path: str, wanted: list[int]) -> None:
    """One GET, of whose answer only the status line is read."""
    loop = asyncio.get_running_loop()
    with await _connect(open_socket, port) as connection:
        request = f"GET {path or '/'} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        line = b""
        while b"\r\n" not in line and len(line) < 512:
            if not (more := await loop.sock_recv(connection, 256)):
                break
            line += more
    _judge_status(line, path, wanted)


async def command(run: RunCommand, arguments: list[str], timeout_s: float) -> None:
    """The time counts from the command's start: waiting for a turn at the engine is not the task's failure."""
    code, output = await run(arguments, timeout_s)
    if code != 0:
        text = output.decode(errors="replace").strip()[-200:]
        raise ProbeFailed(f"{arguments[0]} exited with code {code}" + (f": {text}" if text else ""))


async def _connect(open_socket: OpenSocket, port: int) -> socket:
    connection = await open_socket()
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            why = os.strerror(error.errno).lower() if error.errno else str(error)  # asyncio has words of its own
            raise ProbeFailed(f"port {port}: {why}") from error
        raise
    return connection


def _judge_status(line: bytes, path: str, wanted: list[int]) -> None:
    fields = line.split(b"\r\n", 1)[0].split()
    if len(fields) < 2 or not fields[0].startswith(b"HTTP/") or not fields[1].isdigit():
        raise ProbeFailed("the answer is not HTTP")
    status = int(fields[1])
    if status not in wanted if wanted else not 200 <= status <= 399:
        raise ProbeFailed(f"{path or '/'} answered {status}")
