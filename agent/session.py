"""The agent's side of the session: dial, say hello, take in sets, send what is new, notice silence, dial again.

A session is one bidirectional stream. Its messages are handled in order by one reader; statuses, heartbeats, facts
and orphans are written by a small task each. Whether a set may be acted on is asked here (`agent.guards`), whatever
the controller believes: a refused set changes nothing on the node, and the session is ended, since a controller that
lags may have caught up by the next one.

A controller that says nothing for `lost_after` counts as gone, however alive its connection looks. A quiet session
would be silent for ever, so after a while without a word an empty batch is sent, which has to be acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from agent import attach
from agent.allocations import Allocations
from agent.dial import knock
from agent.guards import Refusal, refuse_cluster, refuse_position
from agent.host import Host
from agent.metrics import CONNECTED, SESSIONS, SETS
from moorage.kit.backoff import Jittered
from moorage.kit.tasks import Owner
from moorage.wire.session_pb2 import (
    AgentMessage,
    Assignment,
    CompleteSet,
    ControllerMessage,
    Delta,
    Heartbeat,
    Hello,
    OrphanReport,
    Position,
    SetDone,
    SetRefused,
    StatusBatch,
    Welcome,
)
from moorage.wire.session_pb2_grpc import AgentsStub
from moorage.wire.store_pb2 import NodeFacts

if TYPE_CHECKING:
    from moorage.wire.session_pb2_grpc import AgentsAsyncStub

log = structlog.get_logger()

PROTOCOL = 1
CONNECT_S = 5.0
REDIRECTS = 4
DONE_PAUSE_S = 2.0
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
]

Stream = grpc.aio.StreamStreamCall[AgentMessage, ControllerMessage]


class SessionEnded(Exception):
    """Why, and whether the next try may come at once."""

    def __init__(self, outcome: str, reason: str, *, redirect: str = "") -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.redirect = redirect


@dataclass(frozen=True, slots=True)
class Terms:
    """How to reach controllers. `usage` is asked for at each heartbeat."""

    controllers: list[str]
    token: str
    version: str
    usage: Callable[[], Awaitable[Heartbeat]]
    cap_s: float = 5.0


class Link:
    """Keeps a session up for as long as it runs."""

    def __init__(self, host: Host, allocations: Allocations, facts: NodeFacts, terms: Terms) -> None:
        self._host = host
        self._allocations = allocations
        self._facts = facts
        self._terms = terms
        self._backoff = Jittered(random.Random(host.rng.random()), base_s=0.1, cap_s=terms.cap_s)
        self._session: Session | None = None
        self._broken = False  # the last one ended without a word

    async def run(self) -> None:
        order = list(self._terms.controllers)
        self._host.rng.shuffle(order)
        while True:
            for address in order:
                await self._follow(address)
                await self._host.clock.sleep(self._backoff.next_s())

    async def _follow(self, address: str) -> None:
        """One session, and those it is redirected to."""
        for _ in range(REDIRECTS):
            if not (address := await self._one(address)):
                return

    async def _one(self, address: str) -> str:
        """Returns where it was redirected to ("": nowhere)."""
        session = Session(self._host, self._allocations, self._facts, self._terms, self._backoff.reset)
        self._session = session
        knocks, self._broken = self._broken, False
        try:
            if knocks:
                await knock(address, CONNECT_S)
            await session.run(address)
        except SessionEnded as end:
            SESSIONS.labels(end.outcome).inc()
            log.info("session ended", outcome=end.outcome, reason=str(end), controller=address, **self._who())
            return end.redirect
        except (grpc.RpcError, OSError, TimeoutError) as error:
            self._broken = True
            SESSIONS.labels("broken").inc()
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else repr(error)
            log.info("session ended", outcome="broken", reason=reason, controller=address, **self._who())
        except Exception:  # one session's trouble must not end the agent: the next one begins anew
            SESSIONS.labels("broken").inc()
            log.exception("session failed", controller=address, **self._who())
        finally:
            self._session = None
            CONNECTED.set(0)
            self._host.outbox.resend()
        return ""

    def facts_changed(self, facts: NodeFacts) -> None:
        self._facts = facts
        if self._session is not None:
            self._session.facts_changed(facts)

    def orphans_changed(self) -> None:
        if self._session is not None:
            self._session.orphans_changed()

    def _who(self) -> dict[str, str]:
        return {"node": self._host.identity.node_name}


class Session:
    def __init__(
        self, host: Host, allocations: Allocations, facts: NodeFacts, terms: Terms, welcomed: Callable[[], None]
    ) -> None:
        self._host = host
        self._allocations = allocations
        self._facts = facts
        self._terms = terms
        self._welcomed = welcomed
        self._welcome = Welcome()
        self._parts: list[Assignment] = []
        self._accepted = False  # a complete set of this session
        self._heard = host.clock.monotonic()
        self._heard_ms = 0
        self._writing = asyncio.Lock()
        self._facts_changed = asyncio.Event()
        self._orphans_changed = asyncio.Event()
        self._done = asyncio.Event()
        self._streams = Owner("attach")

    def facts_changed(self, facts: NodeFacts) -> None:
        self._facts = facts
        self._facts_changed.set()

    def orphans_changed(self) -> None:
        self._orphans_changed.set()

    async def run(self, address: str) -> None:
        """Until it ends, which is always by an exception."""
        metadata: attach.Metadata = (("authorization", f"Bearer {self._terms.token}"),)
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            stub = AgentsStub(channel)
            call: Stream = stub.Session(metadata=metadata)
            try:
                await self._greet(call)
                await self._live(call, stub, metadata)
            finally:
                call.cancel()
                await self._streams.close()
                if self._heard_ms:
                    self._allocations.alone(self._heard_ms)

    async def _greet(self, call: Stream) -> None:
        identity = self._host.identity
        hello = Hello(
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            agent_version=self._terms.version,
            protocol=PROTOCOL,
            seen=self._allocations.seen,
            facts=self._facts,
        )
        async with asyncio.timeout(CONNECT_S):
            await call.write(AgentMessage(hello=hello))
            answer = await call.read()
        if not isinstance(answer, ControllerMessage):
            raise SessionEnded("broken", (await _why(call)) or "the controller ended the stream")
        match answer.WhichOneof("message"):
            case "welcome":
                await self._settle(call, answer.welcome)
            case "redirect":
                raise SessionEnded("redirected", answer.redirect.reason, redirect=answer.redirect.address)
            case "refused":
                if answer.refused.code == "restore_suspected":
                    self._hear()
                    self._allocations.contact()
                raise SessionEnded("refused", f"{answer.refused.code}: {answer.refused.reason}")
            case other:
                raise SessionEnded("broken", f"{other} came before a welcome")

    async def _settle(self, call: Stream, welcome: Welcome) -> None:
        identity = self._host.identity
        if (refusal := refuse_cluster(identity.cluster_id, welcome.cluster_id)) is not None:
            await self._refuse(call, refusal, welcome.position)
        self._welcome = welcome
        self._hear()
        self._allocations.contact()
        CONNECTED.set(1)
        SESSIONS.labels("welcomed").inc()
        log.info("session open", cluster=welcome.cluster_id, epoch=welcome.position.epoch, node=identity.node_name)

    async def _refuse(self, call: Stream, refusal: Refusal, offered: Position) -> None:
        """Say why, change nothing, end the session."""
        log.error("set refused", code=refusal.code, reason=refusal.reason, node=self._host.identity.node_name)
        message = SetRefused(code=refusal.code, reason=refusal.reason, offered=offered)
        await self._send(call, AgentMessage(refused=message))
        await call.done_writing()
        raise SessionEnded("set_refused", refusal.reason)

    async def _live(self, call: Stream, stub: AgentsAsyncStub, metadata: attach.Metadata) -> None:
        work: dict[str, Coroutine[Any, Any, None]] = {
            "read": self._read(call, stub, metadata),
            "statuses": self._send_statuses(call),
            "done": self._send_done(call),
            "heartbeats": self._send_heartbeats(call),
            "orphans": self._send_orphans(call),
            "facts": self._send_facts(call),
            "silence": self._watch_silence(call),
        }
        tasks = [asyncio.create_task(coroutine, name=f"session/{name}") for name, coroutine in work.items()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What is heard

    def _hear(self) -> None:
        self._heard = self._host.clock.monotonic()
        self._heard_ms = self._host.clock.now_ms()

    async def _read(self, call: Stream, stub: AgentsAsyncStub, metadata: attach.Metadata) -> None:
        while isinstance(message := await call.read(), ControllerMessage):
            self._hear()
            match message.WhichOneof("message"):
                case "set":
                    await self._take_part(call, message.set)
                case "delta":
                    await self._take_delta(call, message.delta)
                case "ack":
                    self._host.outbox.acknowledged(message.ack.serial)
                case "drop":
                    self._allocations.drop_orphans(message.drop.allocs)
                case "attach":
                    request, engine = message.attach, self._host.engine
                    serving = attach.serve(request, stub, metadata, self._allocations, engine)
                    self._streams.start(serving, request.stream_id)
                case "redirect":
                    raise SessionEnded("redirected", message.redirect.reason, redirect=message.redirect.address)
                case "refused":
                    raise SessionEnded("refused", f"{message.refused.code}: {message.refused.reason}")
        raise SessionEnded("closed", (await _why(call)) or "the controller ended the stream")

    async def _take_part(self, call: Stream, part: CompleteSet) -> None:
        self._parts.extend(part.assignments)
        if not part.last:
            return
        assignments, self._parts = self._parts, []
        if (refusal := refuse_position(self._allocations.seen, part.position)) is not None:
            await self._refuse(call, refusal, part.position)
        await self._allocations.take_set(part.position, assignments, self._welcome.orphan_grace_ms)
        SETS.inc()
        self._accepted = True
        self._welcomed()
        self._done.set()
        self._orphans_changed.set()

    async def _take_delta(self, call: Stream, delta: Delta) -> None:
        if not self._accepted:
            return  # without the complete set it says nothing about the whole
        if (refusal := refuse_position(self._allocations.seen, delta.position)) is not None:
            await self._refuse(call, refusal, delta.position)
        await self._allocations.take_delta(delta.position, delta.changed, delta.forgotten)
        self._done.set()

    # What is said

    async def _send(self, call: Stream, message: AgentMessage) -> None:
        try:
            async with self._writing:
                await call.write(message)
        except asyncio.InvalidStateError as error:  # it ended between two messages, and the reader has yet to notice
            raise SessionEnded("closed", (await _why(call)) or "the stream has ended") from error

    async def _send_statuses(self, call: Stream) -> None:
        while True:
            batch = await self._host.outbox.next_batch()
            await self._send(call, AgentMessage(statuses=batch))

    async def _send_done(self, call: Stream) -> None:
        """How far it has come; of many changes in a short time only the last is worth a message."""
        while True:
            await self._done.wait()
            self._done.clear()
            await self._send(call, AgentMessage(done=SetDone(revision=self._allocations.seen.revision)))
            await self._host.clock.sleep(DONE_PAUSE_S)

    async def _send_heartbeats(self, call: Stream) -> None:
        pause_s = max(self._welcome.heartbeat_ms, 50) / 1000
        while True:
            heartbeat = await self._terms.usage()
            heartbeat.at_ms = self._host.clock.now_ms()
            await self._send(call, AgentMessage(heartbeat=heartbeat))
            self._host.outbox.resend(older_than_s=10.0)
            await self._host.clock.sleep(pause_s)

    async def _send_orphans(self, call: Stream) -> None:
        last: list[Any] = []
        while True:
            await self._orphans_changed.wait()
            self._orphans_changed.clear()
            if self._accepted and (now := self._allocations.orphans()) != last:
                await self._send(call, AgentMessage(orphans=OrphanReport(orphans=now)))
                last = now

    async def _send_facts(self, call: Stream) -> None:
        while True:
            await self._facts_changed.wait()
            self._facts_changed.clear()
            await self._send(call, AgentMessage(facts=self._facts))

    async def _watch_silence(self, call: Stream) -> None:
        lost_after_s = max(self._welcome.lost_after_ms, 100) / 1000
        while True:
            await self._host.clock.sleep(lost_after_s / 3)
            silent_s = self._host.clock.monotonic() - self._heard
            if silent_s > lost_after_s:
                raise SessionEnded("silent", f"nothing was heard for {silent_s:.1f} s")
            if silent_s > lost_after_s / 3:
                await asyncio.wait_for(self._send(call, AgentMessage(statuses=StatusBatch())), lost_after_s)


async def _why(call: Stream) -> str:
    """What the controller gave as the reason for ending the stream."""
    if not call.done():
        return ""
    return await call.details() or ""
