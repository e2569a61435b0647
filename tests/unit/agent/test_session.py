"""Sessions that break off in awkward ways: the agent goes on, and begins another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent import session
from agent.session import Link, Terms
from moorage.wire.session_pb2 import AgentMessage, CompleteSet, ControllerMessage, Heartbeat, Position, Welcome
from moorage.wire.store_pb2 import NodeFacts
from tests.unit.agent.node import Node


class ScriptedCall:
    """Says what it was given, and then nothing; `write` may be made to fail."""

    def __init__(self, *messages: ControllerMessage) -> None:
        self.messages = list(messages)
        self.written: list[AgentMessage] = []
        self.failure: Callable[[AgentMessage], Exception | None] = lambda message: None

    async def write(self, message: AgentMessage) -> None:
        if (error := self.failure(message)) is not None:
            raise error
        self.written.append(message)

    async def read(self) -> ControllerMessage:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def done_writing(self) -> None: ...

    def cancel(self) -> None: ...

    def done(self) -> bool:
        return True

    async def details(self) -> str:
        return "the controller was killed"


def greeting(epoch: int) -> list[ControllerMessage]:
    position = Position(generation=1, epoch=epoch, revision=10)
    welcome = Welcome(cluster_id="cluster", position=position, heartbeat_ms=100, lost_after_ms=60_000)
    complete = CompleteSet(position=position, last=True)
    return [ControllerMessage(welcome=welcome), ControllerMessage(set=complete)]


class Controllers:
    """One call after the other."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.calls: list[ScriptedCall] = []
        self.coming: list[ScriptedCall] = []
        self.usage: Callable[[], Heartbeat] = Heartbeat
        monkeypatch.setattr(session, "AgentsStub", lambda channel: self)
        monkeypatch.setattr(session, "knock", self._knock)
        self.knocks = 0
        self.away = 0  # so many knocks are not answered
        terms = Terms(["127.0.0.1:1"], "token", "0.1", self._usage)
        self.link = Link(node.host, node.allocations, NodeFacts(name="n1"), terms)
        self._running = asyncio.ensure_future(self.link.run())

    def Session(self, metadata: Any) -> ScriptedCall:
        self.calls.append(self.coming.pop(0) if self.coming else ScriptedCall())
        return self.calls[-1]

    async def until_called(self, times: int) -> None:
        for _ in range(200):
            if len(self.calls) >= times:
                return
            assert not self._running.done(), self._running.exception()
            await self.node.clock.advance(0.1)
            await asyncio.sleep(0.001)
        raise AssertionError(f"called {len(self.calls)} times")

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _knock(self, address: str, timeout_s: float) -> None:
        self.knocks += 1
        if self.knocks <= self.away:
            raise ConnectionRefusedError(f"nobody listens at {address}")

    async def _usage(self) -> Heartbeat:
        return self.usage()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.settle()
    yield node
    await node.down()


async def test_a_stream_that_ended_between_two_messages_is_dialled_anew(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """grpc says InvalidStateError to who writes before the reader has noticed."""
    controllers = Controllers(node, monkeypatch)
    first = ScriptedCall(*greeting(1))
    first.failure = lambda m: asyncio.InvalidStateError("RPC already finished.") if m.HasField("heartbeat") else None
    controllers.coming = [first, ScriptedCall(*greeting(2))]
    await controllers.until_called(2)
    await controllers.close()
    said = capsys.readouterr().out
    assert "the controller was killed" in said and "Traceback" not in said


async def test_an_error_of_our_own_ends_the_session_and_not_the_agent(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    controllers = Controllers(node, monkeypatch)

    def broken() -> Heartbeat:
        raise KeyError("MemAvailable")

    controllers.usage = broken
    controllers.coming = [ScriptedCall(*greeting(1)), ScriptedCall(*greeting(2))]
    await controllers.until_called(3)
    await controllers.close()


async def test_after_a_session_broke_it_knocks_before_it_dials(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    controllers = Controllers(node, monkeypatch)
    controllers.away = 3
    first = ScriptedCall(*greeting(1))
    first.failure = lambda m: OSError("cut off") if m.HasField("heartbeat") else None
    controllers.coming = [first, ScriptedCall(*greeting(2))]
    await controllers.until_called(2)
    await controllers.close()
    assert (len(controllers.calls), controllers.knocks) == (2, 4)
