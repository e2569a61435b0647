"""A dispatcher between a store and scripted agents: real gRPC, real cache, real leadership."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from controller.cache import Cache
from controller.dispatcher import Dispatcher
from controller.leader import Leader
from controller.leader.arrival import Arrival
from controller.store.protocol import Committed, Delete, Put
from moorage.kit.clock import SystemClock
from moorage.kit.settings import Timings
from moorage.model import JobVersion, encode_version, parse_job, template_hashes
from moorage.wire import keys
from moorage.wire.session_pb2 import (
    AgentMessage,
    AttachFrame,
    ControllerMessage,
    Heartbeat,
    Hello,
    Position,
    Redirect,
    Refused,
    StatusBatch,
    Usage,
)
from moorage.wire.session_pb2_grpc import AgentsStub
from moorage.wire.store_pb2 import AllocStatus, Cluster, LeaderInfo, NodeFacts, NodeState
from tests.contract.worlds import World, world
from tests.unit.cache.samples import UID, node_facts

TOKEN = "moor_agent_secret"
QUICK = Timings(heartbeat=0.1, lost_after=0.6, orphan_grace=5)
OTHER = "127.0.0.1:9"

T = TypeVar("T")


@dataclass(frozen=True)
class TokenPeer:
    principal: str
    role: str


def authenticate(token: str) -> TokenPeer | None:
    return {TOKEN: TokenPeer("agents", "agent"), "moor_user_secret": TokenPeer("ada", "admin")}.get(token)


def job_version(count: int = 1, image: str = "busybox:1") -> JobVersion:
    job = parse_job(
        {
            "kind": "Job",
            "name": "hello",
            "groups": {"web": {"count": count, "tasks": {"server": {"container": {"image": image}}}}},
        }
    )
    return JobVersion(job, template_hashes(job), "ada", 1)


def put_version(number: int = 1, uid: str = UID, image: str = "busybox:1") -> Put:
    return Put(keys.job_version(uid, number), encode_version(job_version(image=image)))


class Agent:
    """One end of a session, by hand. What it was told is kept as an agent would: allocation -> newest assignment."""

    def __init__(self, port: int, node: str = "n1", *, token: str = TOKEN) -> None:
        self.node = node
        self.token = token
        self.seen = Position()
        self.cluster_id = ""
        self.protocol = 1
        self.facts = node_facts(node)
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub: Any = AgentsStub(self._channel)
        self._call: Any = None
        self.messages = 0

    async def hello(self) -> ControllerMessage:
        """The answer."""
        self._call = self._stub.Session(metadata=(("authorization", f"Bearer {self.token}"),))
        await self.say(
            hello=Hello(
                cluster_id=self.cluster_id,
                node_id=self.node,
                agent_version="0.1.0",
                protocol=self.protocol,
                seen=self.seen,
                facts=self.facts,
            )
        )
        return await self.hear()

    async def join(self) -> tuple[ControllerMessage, dict[str, Any]]:
        """Hello, Welcome and the complete set; what it was told is what it has seen."""
        welcome = await self.hello()
        assert welcome.WhichOneof("message") == "welcome", welcome
        self.cluster_id = welcome.welcome.cluster_id
        assignments: dict[str, Any] = {}
        while True:
            part = (await self.hear()).set
            assignments.update({assignment.alloc: assignment for assignment in part.assignments})
            self.messages += 1
            if part.last:
                self.seen.CopyFrom(part.position)
                return welcome, assignments

    async def say(self, **message: Any) -> None:
        await self._call.write(AgentMessage(**message))

    async def report(self, serial: int, *statuses: AllocStatus) -> None:
        await self.say(statuses=StatusBatch(serial=serial, statuses=statuses))

    async def beat(self) -> None:
        await self.say(heartbeat=Heartbeat(at_ms=1, usage=Usage(cpu_usage_us=7)))

    async def hear(self, kind: str = "", timeout_s: float = 5.0) -> ControllerMessage:
        """The next message (of a kind; others are passed over)."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._call.read()
                assert isinstance(message, ControllerMessage), f"the stream ended: {message}"
                if not kind or message.WhichOneof("message") == kind:
                    return message

    async def delta(self) -> ControllerMessage:
        message = await self.hear("delta")
        self.seen.CopyFrom(message.delta.position)
        return message

    async def farewell(self) -> Redirect | Refused:
        """Why the controller ended the session, and that it did."""
        while True:
            message = await self.hear()
            kind = message.WhichOneof("message")
            if kind in ("redirect", "refused"):
                assert await self._call.read() is grpc.aio.EOF
                return message.redirect if kind == "redirect" else message.refused

    def attach(self) -> Any:
        return self._stub.Attach(metadata=(("authorization", f"Bearer {self.token}"),))

    def hang_up(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def close(self) -> None:
        self.hang_up()
        await self._channel.close()


class Controller:
    """The parts of a controller that a dispatcher needs, over one store."""

    def __init__(self, around: World, timings: Timings, name: str = "c1") -> None:
        clock = SystemClock()
        self.world = around
        self.store = around.store
        self.cache = Cache(self.store, clock)
        info = LeaderInfo(controller=name, agent_address="127.0.0.1:7071")
        self.arrival = Arrival(self.cache, self.store, clock, random.Random(), name)
        self.leader = Leader(self.store, clock, name, info, ttl_s=5, renew_s=0.3)
        self.dispatcher = Dispatcher(self.cache, self.store, self.leader, clock, timings, authenticate)
        self.port = 0
        self._agents: list[Agent] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.arrive()
        await self.lead()

    async def arrive(self) -> None:
        """As far as a controller comes before it is elected."""
        self.port = await self.dispatcher.serve("127.0.0.1:0")
        self._tasks = [asyncio.create_task(self.cache.run()), asyncio.create_task(self.arrival.run())]
        await self.arrival.arrived.wait()

    async def lead(self, timeout_s: float = 10.0) -> None:
        self._tasks.append(asyncio.create_task(self.leader.run()))
        await self.until(self.dispatcher.may_send, timeout_s)

    async def stop(self, *, killed: bool = False) -> None:
        """Killed: nothing is given back."""
        if not self._tasks:
            return
        for agent in self._agents:
            await agent.close()
        if killed:
            self.leader.resign = _nothing  # type: ignore[method-assign]
            self.leader.end("killed")
        await self.dispatcher.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def agent(self, node: str = "n1", *, token: str = TOKEN) -> Agent:
        self._agents.append(Agent(self.port, node, token=token))
        return self._agents[-1]

    async def write(self, *operations: Put | Delete) -> Committed:
        committed = await self.store.commit([], operations)
        await self.cache.passed(committed.revision)
        return committed

    async def cluster(self) -> Cluster:
        kv = await self.store.get(keys.CLUSTER)
        assert kv is not None
        return Cluster.FromString(kv.value)

    async def state(self, node: str = "n1") -> NodeState:
        kv = await self.store.get(keys.node_state(node))
        return NodeState.FromString(kv.value) if kv else NodeState()

    async def facts(self, node: str = "n1") -> NodeFacts:
        kv = await self.store.get(keys.node_facts(node))
        return NodeFacts.FromString(kv.value) if kv else NodeFacts()

    async def status(self, alloc: str, node: str = "n1") -> AllocStatus | None:
        kv = await self.store.get(keys.status(node, alloc))
        return AllocStatus.FromString(kv.value) if kv else None

    async def until(self, holds: Callable[[], object], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():  # noqa: ASYNC110 (anything may make it hold)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def controller(kind: str, folder: Path, timings: Timings = QUICK) -> AsyncIterator[Controller]:
    async with world(kind, folder) as around:
        made = Controller(around, timings)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


async def _nothing() -> None:
    pass


def frame(data: bytes = b"", *, stream: str = "", end: bool = False, error: str = "") -> AttachFrame:
    return AttachFrame(stream_id=stream, channel=1, data=data, end=end, error=error)
