"""A cluster for the API's tests: store in memory, the real cache, the real app; leader and agents are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from controller.api import ApiDeps, ApiSettings, create_app
from controller.api.tokens import issue
from controller.cache import Cache
from controller.dispatcher.attach import AttachFailed
from controller.store.memory import MemoryStore
from controller.store.protocol import Put
from moorage.kit.clock import SystemClock
from moorage.wire import keys, store_pb2
from moorage.wire.session_pb2 import AttachFrame, Heartbeat, LogsRequest, Orphan
from moorage.wire.spec_pb2 import Resources

FAST = ApiSettings(controller_id="c1", store_patience_s=0.3, catch_up_s=1.0, bookmark_s=0.3, watch_backlog=50)


class ScriptedLeader:
    def __init__(self) -> None:
        self.leading = True
        self.info: store_pb2.LeaderInfo | None = store_pb2.LeaderInfo(controller="c1", api_url="http://leader.test")

    def is_leading(self) -> bool:
        return self.leading

    def known(self) -> store_pb2.LeaderInfo | None:
        return self.info


@dataclass
class ScriptedSessions:
    """Stands for the dispatcher."""

    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    orphaned: dict[str, list[Orphan]] = field(default_factory=dict)
    dropped: list[tuple[str, list[str]]] = field(default_factory=list)
    accepted_by: list[str] = field(default_factory=list)
    frames: list[AttachFrame] = field(default_factory=list)
    asked: list[tuple[str, LogsRequest]] = field(default_factory=list)
    unconnected: set[str] = field(default_factory=set)
    restore_fails: Exception | None = None
    fetched: int = 0
    closed: int = 0

    def usage(self, node_id: str) -> Heartbeat | None:
        return self.heartbeats.get(node_id)

    def orphans(self, node_id: str) -> list[Orphan]:
        return self.orphaned.get(node_id, [])

    def drop_orphans(self, node_id: str, alloc_ids: Sequence[str]) -> None:
        self._need(node_id)
        self.dropped.append((node_id, list(alloc_ids)))

    async def accept_restore(self, principal: str) -> int:
        if self.restore_fails is not None:
            raise self.restore_fails
        self.accepted_by.append(principal)
        return 2

    def open_logs(self, node_id: str, request: LogsRequest) -> AsyncGenerator[AttachFrame, None]:
        self._need(node_id)
        return self._read(node_id, request)

    def _need(self, node_id: str) -> None:
        if node_id in self.unconnected:
            raise AttachFailed(f"node {node_id} is not connected")

    async def _read(self, node_id: str, request: LogsRequest) -> AsyncGenerator[AttachFrame, None]:
        self.asked.append((node_id, request))
        try:
            for frame in self.frames:
                self.fetched += 1
                yield frame
            if request.follow:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


@dataclass
class World:
    store: MemoryStore
    cache: Cache
    leader: ScriptedLeader
    sessions: ScriptedSessions
    deps: ApiDeps
    app: FastAPI
    admin: str
    shop: str  # a token for project shop
    agent: str
    http: httpx.AsyncClient

    async def put(self, key: str, message: Any) -> int:
        """Write as the leader or a node would, and wait until the API sees it."""
        committed = await self.store.commit([], [Put(key, message.SerializeToString())])
        await self.cache.passed(committed.revision)
        return committed.revision

    async def node(self, node_id: str, name: str = "", phase: Any = store_pb2.NodeState.READY, **labels: str) -> None:
        facts = store_pb2.NodeFacts(name=name or node_id, cpu_millis=4000, memory_bytes=8 << 30, disk_bytes=1 << 40)
        facts.attributes["os.arch"] = "amd64"
        for label, value in labels.items():
            facts.attributes[f"label.{label}"] = value
        await self.put(keys.node_facts(node_id), facts)
        await self.put(keys.node_state(node_id), store_pb2.NodeState(phase=phase, name=name or node_id))

    async def allocation(
        self, job: str, group: str, index: int, node: str, *, attempt: int = 1, project: str = "default", **more: Any
    ) -> str:
        """Place a job's slot; returns the id."""
        entry = self.cache.job(project, job)
        assert entry is not None
        key = keys.AllocKey(entry.uid, group, index, attempt)
        alloc = store_pb2.Alloc(project=project, job=job, node=node, version=entry.version, **more)
        alloc.resources.CopyFrom(Resources(cpu_millis=100, memory_bytes=64 << 20, disk_bytes=1 << 20))
        await self.put(key.key, alloc)
        return key.id

    async def status(self, alloc: str, phase: Any, **more: Any) -> None:
        entry = self.cache.alloc(alloc)
        assert entry is not None
        status = store_pb2.AllocStatus(alloc=alloc, phase=phase, job_uid=entry.job_uid, **more)
        await self.put(keys.status(entry.node, alloc), status)

    async def job_state(self, job: str, state: store_pb2.JobState, project: str = "default") -> None:
        entry = self.cache.job(project, job)
        assert entry is not None
        await self.put(keys.job_state(entry.uid), state)


@asynccontextmanager
async def world(
    settings: ApiSettings = FAST, *, synced: bool = True, trouble: Callable[[], list[str]] = list
) -> AsyncIterator[World]:
    store = MemoryStore()
    cache = Cache(store, SystemClock())
    follow = asyncio.create_task(cache.run()) if synced else None
    leader, sessions = ScriptedLeader(), ScriptedSessions()
    deps = ApiDeps(cache, store, leader, sessions, SystemClock(), settings, trouble=trouble)
    app = create_app(deps)
    admin = await issue(store, "admin", "alice")
    shop = await issue(store, "project", "bob", "shop")
    agent = await issue(store, "agent", "host-1")
    if synced:
        await cache.synced.wait()
        await cache.passed((await store.status()).revision)
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {admin}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as http:
        yield World(store, cache, leader, sessions, deps, app, admin, shop, agent, http)
    if follow is not None:
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
    await store.close()


def hello(count: int = 2, image: str = "busybox:1", **more: Any) -> dict[str, Any]:
    task = {"container": {"image": image}, "resources": {"cpu": "100m", "memory": "64Mi"}}
    return {"groups": {"web": {"count": count, "tasks": {"server": task}}}} | more


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
