"""Logs on their way to who asked for them: a stream of its own, dialled by the agent when told.

Each frame is written only when the stream has room for it, so a reader that is slow slows the driver's reading, and
nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import structlog

from agent.allocations import Allocations
from agent.drivers.protocol import DriverError, Handle
from agent.engine import Engine
from moorage.wire.session_pb2 import AttachFrame, AttachRequest, LogsRequest

if TYPE_CHECKING:
    from moorage.wire.session_pb2_grpc import AgentsAsyncStub

log = structlog.get_logger()

FRAME_BYTES = 32 * 1024
Metadata = tuple[tuple[str, str], ...]


async def serve(
    request: AttachRequest, stub: AgentsAsyncStub, metadata: Metadata, allocations: Allocations, engine: Engine
) -> None:
    call = stub.Attach(metadata=metadata)
    try:
        await call.write(AttachFrame(stream_id=request.stream_id))
        reading = asyncio.ensure_future(call.read())
        sending = asyncio.ensure_future(_send(call, request, allocations, engine))
        try:
            await asyncio.wait([reading, sending], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)
    except (grpc.RpcError, asyncio.InvalidStateError) as error:  # the latter where it ended between two frames
        log.info("log stream ended", stream=request.stream_id, error=str(error))
    finally:
        call.cancel()


async def _send(
    call: grpc.aio.StreamStreamCall[AttachFrame, AttachFrame],
    request: AttachRequest,
    allocations: Allocations,
    engine: Engine,
) -> None:
    error = ""
    try:
        handle = find(allocations, request.logs)
        async for frame in frames(engine, handle, request.logs):
            await call.write(frame)
    except (DriverError, LookupError) as trouble:
        error = str(trouble.args[0])
    await call.write(AttachFrame(channel=3 if error else 0, end=True, error=error))
    await call.done_writing()
    await call.read()


def find(allocations: Allocations, wanted: LogsRequest) -> Handle:
    """The newest run of the task that is still there. LookupError says what is wrong in the user's words."""
    runner = allocations.find(wanted.alloc)
    if runner is None:
        raise LookupError(f"allocation {wanted.alloc} is not on this node any more")
    tasks = runner.seen.tasks
    name = wanted.task or (next(iter(tasks)) if len(tasks) == 1 else "")
    if name not in tasks:
        raise LookupError(f"no task {wanted.task!r} in it; there are: {', '.join(tasks)}")
    handle = tasks[name].handle
    if handle is None:
        raise LookupError(f"{name} has not been started, or what it left has been removed")
    return handle


async def frames(engine: Engine, handle: Handle, wanted: LogsRequest) -> AsyncIterator[AttachFrame]:
    chunks = engine.driver.logs(
        handle, follow=wanted.follow, tail=wanted.tail, since_ms=wanted.since_ms, timestamps=wanted.timestamps
    )
    async for chunk in chunks:
        for start in range(0, len(chunk.data), FRAME_BYTES):
            yield AttachFrame(channel=chunk.channel, data=chunk.data[start : start + FRAME_BYTES])
