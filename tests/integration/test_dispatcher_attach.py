"""Log streams: asked for over a session, dialled by the agent, at the reader's pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import grpc.aio
import pytest

from controller.dispatcher import AttachFailed
from controller.dispatcher.attach import QUEUE_FRAMES
from moorage.kit.settings import Timings
from moorage.wire.session_pb2 import AttachFrame, LogsRequest
from tests.integration.dispatcher_world import Agent, Controller, controller, frame

WANTED = LogsRequest(alloc="a1", task="server", follow=True, tail=-1)


@pytest.fixture
async def moor(tmp_path: Path) -> AsyncIterator[Controller]:
    async with controller("memory", tmp_path, Timings(heartbeat=5, lost_after=60)) as made:
        yield made


@pytest.fixture
async def agent(moor: Controller) -> Agent:
    agent = moor.agent()
    await agent.join()
    return agent


async def test_frames_arrive_in_order_until_the_end(moor: Controller, agent: Agent) -> None:
    async def serve() -> None:
        request = (await agent.hear("attach")).attach
        assert request.logs == WANTED
        call = agent.attach()
        await call.write(frame(stream=request.stream_id))
        for number in range(100):
            await call.write(frame(b"line %d\n" % number))
        await call.write(frame(end=True))
        assert await call.read() is grpc.aio.EOF

    serving = asyncio.create_task(serve())
    got = [part.data async for part in moor.dispatcher.open_logs("n1", WANTED)]
    assert got == [b"line %d\n" % number for number in range(100)]
    await serving


async def test_a_slow_reader_makes_the_agent_wait(moor: Controller, agent: Agent) -> None:
    written = 0

    async def serve() -> None:
        nonlocal written
        call = agent.attach()
        await call.write(frame(stream=(await agent.hear("attach")).attach.stream_id))
        while True:
            await call.write(frame(bytes(64 << 10)))
            written += 1

    serving = asyncio.create_task(serve())
    async with aclosing(moor.dispatcher.open_logs("n1", WANTED)) as logs:
        await anext(logs)
        settled = -1
        while written != settled:
            settled = written
            await asyncio.sleep(0.2)
        assert QUEUE_FRAMES <= settled < 400
        for _ in range(100):
            await anext(logs)
        await moor.until(lambda: written > settled)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
        await serving


async def test_the_agent_is_told_when_the_reader_goes_away(moor: Controller, agent: Agent) -> None:
    async def serve() -> object:
        call = agent.attach()
        await call.write(frame(stream=(await agent.hear("attach")).attach.stream_id))
        await call.write(frame(b"one"))
        return await call.read()

    serving = asyncio.create_task(serve())
    async with aclosing(moor.dispatcher.open_logs("n1", WANTED)) as logs:
        assert (await anext(logs)).data == b"one"
    async with asyncio.timeout(5):
        assert await serving is grpc.aio.EOF


async def test_a_stream_that_breaks_off_is_an_error_and_an_errors_text_arrives(moor: Controller, agent: Agent) -> None:
    async def serve() -> None:
        call = agent.attach()
        await call.write(frame(stream=(await agent.hear("attach")).attach.stream_id))
        await call.write(AttachFrame(channel=3, error="no such task"))
        await asyncio.sleep(0.05)
        call.cancel()

    serving = asyncio.create_task(serve())
    got: list[str] = []
    with pytest.raises(AttachFailed, match="broke off"):
        async for part in moor.dispatcher.open_logs("n1", WANTED):
            got.append(part.error)  # noqa: PERF401 (it ends by an error)
    assert got == ["no such task"]
    await serving


async def test_an_agent_that_does_not_dial_is_said_so(moor: Controller, agent: Agent) -> None:
    moor.dispatcher.streams.dial_timeout_s = 0.1
    with pytest.raises(AttachFailed, match=r"node n1 did not open the stream within 0\.1 s"):
        await anext(moor.dispatcher.open_logs("n1", WANTED))


async def test_a_node_without_a_session_has_no_logs_to_open(moor: Controller) -> None:
    with pytest.raises(AttachFailed, match="n7 is not connected"):
        moor.dispatcher.open_logs("n7", WANTED)
    with pytest.raises(AttachFailed, match="n7 is not connected"):
        moor.dispatcher.drop_orphans("n7", ["a1"])


async def test_a_stream_that_nobody_asked_for_is_refused(moor: Controller, agent: Agent) -> None:
    call = agent.attach()
    await call.write(frame(stream="made up"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    stranger = moor.agent(token="wrong").attach()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stranger.read()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
