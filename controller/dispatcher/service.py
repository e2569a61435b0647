"""The gRPC side: one bidirectional call for each session, one for each log stream.

Messages to agents are bytes already (`assignments`), and heartbeats, which are most of what comes, are not decoded at
all: they are told by their first byte. Otherwise this module only moves messages between gRPC and `Dispatcher`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from controller.dispatcher import metrics
from controller.dispatcher.admission import Peer
from controller.dispatcher.attach import Stream
from controller.dispatcher.session import Session, goodbye
from moorage.wire.session_pb2 import AgentMessage, AttachFrame, ControllerMessage, Redirect, Refused

if TYPE_CHECKING:
    from controller.dispatcher.dispatcher import Dispatcher

    Context = grpc.aio.ServicerContext[bytes, bytes]

HELLO_TIMEOUT_S = 10.0
FAREWELL_S = 2.0
"""How long the last message may take on a stream that is to end."""

HEARTBEAT_TAG = AgentMessage.HEARTBEAT_FIELD_NUMBER << 3 | 2

HEARTBEATS = metrics.RECEIVED.labels("heartbeat")

OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # agents may ping as often as this
    # A probe of the bandwidth goes out with nearly every message that is read alone: half the cost of a heartbeat.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),
)


class Service:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._server: grpc.aio.Server | None = None

    async def serve(self, address: str) -> int:
        """Returns the port. Raises RuntimeError where the address cannot be bound."""
        self._server = server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        port = server.add_insecure_port(address)
        await server.start()
        return port

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(FAREWELL_S)

    def _handlers(self) -> grpc.GenericRpcHandler:
        handlers: dict[str, Any] = {
            "Session": grpc.stream_stream_rpc_method_handler(cast(Any, self.session)),
            "Attach": grpc.stream_stream_rpc_method_handler(cast(Any, self.attach)),
        }
        return grpc.method_handlers_generic_handler("moorage.wire.Agents", handlers)

    # -- sessions --------------------------------------------------------------------------------------------------

    async def session(self, _: object, context: Context) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await _read(context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no Hello came")
        answer = await self._answer(first, self._peer(context))
        if not isinstance(answer, Session):
            await context.write(goodbye(answer).SerializeToString())
            return
        try:
            await self._hold(answer, context)
        finally:
            self._dispatcher.ended(answer)

    async def _answer(self, first: bytes | None, peer: Peer | None) -> Session | Redirect | Refused:
        message = _decoded(first or b"")
        if message is None or message.WhichOneof("message") != "hello":
            return Refused(code="protocol", reason="the first message must be a Hello")
        return await self._dispatcher.hello(message.hello, peer)

    async def _hold(self, session: Session, context: Context) -> None:
        """Until either side ends it, or something breaks."""
        reader = asyncio.ensure_future(self._read(session, context))
        sender = asyncio.ensure_future(self._send(session, context))
        loop = asyncio.get_running_loop()
        # An agent that does not read cannot keep a session open that is to end.
        session.when_ending = lambda: loop.call_later(FAREWELL_S, sender.cancel)
        await first_of(reader, sender)

    async def _send(self, session: Session, context: Context) -> None:
        dispatcher = self._dispatcher
        welcome = ControllerMessage(welcome=dispatcher.welcome(session))
        await context.write(welcome.SerializeToString())
        await session.send(dispatcher.cache, dispatcher.clock, dispatcher.may_send, context.write)

    async def _read(self, session: Session, context: Context) -> None:
        while (data := await _read(context)) is not None:
            if session.closing is not None:
                continue  # nothing that it says now counts
            if data and data[0] == HEARTBEAT_TAG:
                HEARTBEATS.inc()
                self._dispatcher.heartbeat(session, data)
            elif (message := _decoded(data)) is not None:
                metrics.RECEIVED.labels(message.WhichOneof("message") or "nothing").inc()
                await self._dispatcher.message(session, message)
            else:
                session.end(Refused(code="protocol", reason="a message that cannot be read"))

    # -- log streams -----------------------------------------------------------------------------------------------

    async def attach(self, _: object, context: Context) -> None:
        peer = self._peer(context)
        if peer is None or peer.role != "agent":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token of role agent")
        frame = AttachFrame.FromString(await _read(context) or b"")
        stream = self._dispatcher.streams.claim(frame.stream_id)
        if stream is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nobody waits for this stream (any more)")
        pump = asyncio.ensure_future(self._pump(frame, stream, context))
        await first_of(pump, asyncio.ensure_future(stream.closed.wait()))

    async def _pump(self, frame: AttachFrame, stream: Stream, context: Context) -> None:
        """From the agent's call to the reader, one frame at a time: the reader's pace is the agent's."""
        error = "the node's side of the stream broke off"
        try:
            while True:
                if frame.data or frame.error:
                    await stream.put(frame)
                if frame.end:
                    error = ""
                    return
                # A call that was cut off ends like one that was closed: only a frame can say that it is the last.
                if (data := await _read(context)) is None:
                    return
                frame = AttachFrame.FromString(data)
        finally:
            stream.finish(error)

    def _peer(self, context: Context) -> Peer | None:
        """Whoever calls, from the bearer token in the call's metadata."""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                scheme, _, token = value.partition(" ")
                return self._dispatcher.authenticate(token) if scheme.lower() == "bearer" else None
        return None


async def first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one ends, then end the others. What one failed with is raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()


async def _read(context: Context) -> bytes | None:
    """The next message, encoded; None where the agent has ended its side."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None


def _decoded(data: bytes) -> AgentMessage | None:
    try:
        return AgentMessage.FromString(data)
    except DecodeError:
        return None
