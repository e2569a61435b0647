"""Health checks: when a task counts as healthy, and the three ways to ask."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from agent import health
from agent.drivers.protocol import EngineAway
from agent.health import ProbeFailed, Verdict
from moorage.kit.clock import ManualClock
from moorage.wire.spec_pb2 import HealthCheck
from moorage.wire.store_pb2 import HEALTH_UNKNOWN, HEALTHY, UNHEALTHY

CHECK = HealthCheck(interval_ms=2000, timeout_ms=1000, start_ms=10_000, failures=3)


class Watched:
    """A check over a task whose answers a test chooses."""

    def __init__(self, check: HealthCheck = CHECK, verdict: Verdict | None = None) -> None:
        self.clock = ManualClock()
        self.verdict = verdict or Verdict()
        self.answer: Exception | None = None
        self.asked = 0
        self.told: list[int] = []
        self._task = asyncio.ensure_future(
            health.watch(check, self._probe, self.clock, random.Random(1), self._tell, self.verdict)
        )

    async def after(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    def close(self) -> None:
        self._task.cancel()

    async def _probe(self) -> None:
        self.asked += 1
        if self.answer is not None:
            raise self.answer

    def _tell(self, verdict: Verdict) -> None:
        self.told.append(verdict.health)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    await asyncio.sleep(0)
    watched = Watched()
    await asyncio.sleep(0)
    yield watched
    watched.close()


async def test_it_is_healthy_from_its_first_success(watched: Watched) -> None:
    await watched.after(0.5)
    assert watched.told == [HEALTHY]


async def test_before_its_first_success_it_is_asked_eagerly(watched: Watched) -> None:
    watched.answer = ProbeFailed("not yet")
    await watched.after(5)
    assert watched.asked >= 15
    watched.answer = None
    await watched.after(0.3)
    assert watched.told == [HEALTHY]
    asked = watched.asked
    await watched.after(20)
    assert 8 <= watched.asked - asked <= 12


async def test_failures_within_the_grace_do_not_count(watched: Watched) -> None:
    watched.answer = ProbeFailed("not yet")
    await watched.after(9.9)
    assert watched.told == [] and watched.verdict.failures == 0
    await watched.after(6)
    assert watched.told == [UNHEALTHY]


async def test_only_failures_in_a_row_make_it_unhealthy(watched: Watched) -> None:
    await watched.after(1)
    for _ in range(5):
        watched.answer = ProbeFailed("port 80: Connection refused")
        await watched.after(4)
        watched.answer = None
        await watched.after(2.4)
    assert watched.told == [HEALTHY]
    watched.answer = ProbeFailed("port 80: Connection refused")
    await watched.after(7)
    assert watched.told == [HEALTHY, UNHEALTHY]
    assert watched.verdict.why == "port 80: Connection refused"


async def test_an_engine_that_is_away_proves_nothing(watched: Watched) -> None:
    await watched.after(1)
    watched.answer = EngineAway("away")
    await watched.after(60)
    assert watched.told == [HEALTHY]


async def test_what_was_healthy_before_a_restart_of_the_agent_stays_so_until_it_fails() -> None:
    watched = Watched(verdict=Verdict(HEALTHY))
    await asyncio.sleep(0)
    watched.answer = ProbeFailed("gone")
    await watched.after(3)
    assert watched.told == []
    await watched.after(5)
    assert watched.told == [UNHEALTHY]
    watched.close()


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(answer: bytes) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def opened() -> socket.socket:
    found = socket.socket()
    found.setblocking(False)
    return found


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "wanted", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", [], None),
        (b"HTTP/1.0 302 Found\r\n\r\n", [], None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", [200, 204], None),
        (b"HTTP/1.1 302 Found\r\n\r\n", [200, 204], "/health answered 302"),
        (b"HTTP/1.1 500 No\r\n\r\n", [], "/health answered 500"),
        (b"SSH-2.0-x\r\n", [], "the answer is not HTTP"),
        (b"", [], "the answer is not HTTP"),
    ],
)
async def test_http_is_judged_by_its_status(answer: bytes, wanted: list[int], failure: str | None) -> None:
    async with await served(answer) as server:
        ask = health.http(opened, port_of(server), "/health", wanted)
        if failure is None:
            await ask
        else:
            with pytest.raises(ProbeFailed, match=failure):
                await ask


async def test_tcp_needs_someone_who_listens() -> None:
    async with await served(b"") as server:
        port = port_of(server)
        await health.tcp(opened, port)
    with pytest.raises(ProbeFailed, match=f"port {port}: connection refused"):
        await health.tcp(opened, port)


async def test_a_command_is_judged_by_its_exit_code() -> None:
    async def run(code: int, arguments: list[str], timeout_s: float) -> tuple[int, bytes]:
        return code, b"no such table\n"

    await health.command(partial(run, 0), ["check"], 1)
    with pytest.raises(ProbeFailed, match="check exited with code 3: no such table"):
        await health.command(partial(run, 3), ["check"], 1)


async def test_no_answer_in_time_is_a_failure() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    verdict = Verdict()
    assert verdict.health == HEALTH_UNKNOWN
    await health._ask(HealthCheck(failures=1), partial(health.within, 20, hang), verdict, in_grace=False)
    assert verdict.health == UNHEALTHY and verdict.why == "no answer within 20 ms"


async def test_a_commands_wait_for_its_turn_is_not_the_tasks_failure() -> None:
    async def busy_engine(arguments: list[str], timeout_s: float) -> tuple[int, bytes]:
        await asyncio.sleep(5 * timeout_s)
        return 0, b""

    verdict = Verdict()
    check = HealthCheck(timeout_ms=20, failures=1)
    await health._ask(check, partial(health.command, busy_engine, ["check"], 0.02), verdict, in_grace=False)
    assert verdict.health == HEALTHY
