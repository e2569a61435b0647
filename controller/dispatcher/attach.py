"""Log streams: asked for over a session, dialled by the agent, read by whoever asked.

A stream is known by a random id. The agent is told it over its session and names it in its first frame. Between the
agent's call and the reader stands a short queue: where the reader is slow the call reads no more, and gRPC's flow
control makes the agent wait. Both ends can go away at any time, and the other end is told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable

from controller.dispatcher import metrics
from moorage.wire.session_pb2 import AttachFrame, AttachRequest, LogsRequest

QUEUE_FRAMES = 16
DIAL_TIMEOUT_S = 10.0


class AttachFailed(Exception):
    """The message is for users."""


class Stream:
    """One stream between an agent's call (`put`, `finish`) and its reader."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.dialled = asyncio.Event()
        self.closed = asyncio.Event()  # by the reader
        self._room = asyncio.Semaphore(QUEUE_FRAMES)
        self._frames: asyncio.Queue[AttachFrame | AttachFailed | None] = asyncio.Queue()

    async def put(self, frame: AttachFrame) -> None:
        """Waits while the reader is behind."""
        await self._room.acquire()
        self._frames.put_nowait(frame)

    def finish(self, error: str = "") -> None:
        self._frames.put_nowait(AttachFailed(error) if error else None)

    async def next(self) -> AttachFrame | None:
        """None at the end. Raises AttachFailed."""
        frame = await self._frames.get()
        if isinstance(frame, AttachFailed):
            raise frame
        self._room.release()
        return frame


class Streams:
    def __init__(self, dial_timeout_s: float = DIAL_TIMEOUT_S) -> None:
        self.dial_timeout_s = dial_timeout_s
        self._open: dict[str, Stream] = {}

    async def read(
        self, node: str, name: str, request: LogsRequest, ask: Callable[[AttachRequest], None]
    ) -> AsyncGenerator[AttachFrame, None]:
        """Ask the agent to dial, then yield what it sends. Raises AttachFailed."""
        stream_id = secrets.token_hex(16)
        self._open[stream_id] = stream = Stream(node)
        metrics.STREAMS.inc()
        try:
            ask(AttachRequest(stream_id=stream_id, logs=request))
            await self._dialled(stream, name)
            while (frame := await stream.next()) is not None:
                yield frame
        finally:
            metrics.STREAMS.dec()
            self._open.pop(stream_id, None)
            stream.closed.set()

    def claim(self, stream_id: str) -> Stream | None:
        """The agent has dialled. Once for each id."""
        stream = self._open.pop(stream_id, None)
        if stream is not None:
            stream.dialled.set()
        return stream

    async def _dialled(self, stream: Stream, name: str) -> None:
        try:
            async with asyncio.timeout(self.dial_timeout_s):
                await stream.dialled.wait()
        except TimeoutError:
            raise AttachFailed(
                f"node {name} did not open the stream within {self.dial_timeout_s:g} s; is it overloaded or cut off?"
            ) from None
