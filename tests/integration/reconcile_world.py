"""A cluster without processes: the real reconciler, scheduler and cache over the store in memory, and scripted nodes.

Nodes do what they are told a moment later, as agents do, and write their status. The leadership can be replaced
between any two commits, which is what `Leaders.change_after` is for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from controller.cache import AllocEntry, Cache, Change
from controller.leader.term import LeadershipTerm, NotLeading
from controller.reconcile import Reconciler, ReconcileSettings
from controller.store.memory import MemoryStore
from controller.store.protocol import Committed, CreatedAt, Delete, Guard, Operation, Put
from moorage.kit.clock import SystemClock
from moorage.kit.tasks import Owner
from moorage.model import JobVersion, encode_version, parse_job, template_hashes
from moorage.wire import keys
from moorage.wire.keys import AllocKey
from moorage.wire.store_pb2 import (
    FAILED,
    HEALTH_UNKNOWN,
    HEALTHY,
    RUNNING,
    STOPPED,
    AllocStatus,
    Health,
    Job,
    LeaderInfo,
    NodeFacts,
    NodeSpec,
    NodeState,
    Phase,
    Request,
)

FAST = ReconcileSettings(
    window_s=0.005,
    capacity_s=0.01,
    state_s=0.02,
    state_late_s=0.1,
    flush_events_s=0.05,
    collect_s=0.05,
)
GIB = 1 << 30


@dataclass
class Leaders:
    """The election, by hand. Satisfies the reconciler's `Leadership`."""

    store: MemoryStore
    term: LeadershipTerm | None = None
    commits: int = 0
    change_after: int | None = None  # commits that this leadership still gets
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    callbacks: list[Callable[[LeadershipTerm | None], None]] = field(default_factory=list)

    def subscribe(self, callback: Callable[[LeadershipTerm | None], None]) -> object:
        self.callbacks.append(callback)
        return callback

    async def elect(self) -> None:
        await self.store.commit([], [Delete(keys.LEADER)])
        info = LeaderInfo(controller="c", term=f"t{self.commits}")
        made = await self.store.commit([], [Put(keys.LEADER, info.SerializeToString())])
        self._become(LeadershipTerm(f"t{made.revision}", CreatedAt(keys.LEADER, made.revision), made.revision))

    def resign(self) -> None:
        self._become(None)

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        term = self.term
        if term is None:
            raise NotLeading
        await asyncio.sleep(0)
        if self.change_after is not None and self.change_after <= 0:
            self.change_after = None
            self.resign()
            self.changed.set()
            raise NotLeading
        committed = await self.store.commit([term.fence, *guards], operations)
        if committed.ok:
            self.commits += 1
            if self.change_after is not None:
                self.change_after -= 1
        return committed

    def _become(self, term: LeadershipTerm | None) -> None:
        self.term = term
        for callback in self.callbacks:
            callback(term)


@dataclass
class Nodes:
    """What agents would do. `away` ones hear and say nothing; `crash` says which attempts fail instead of running."""

    world: World
    away: set[str] = field(default_factory=set)
    crash: Callable[[AllocEntry], str] = lambda _: ""
    healthy: Callable[[AllocEntry], bool] = lambda _: True
    delay_s: float = 0.002
    owner: Owner = field(default_factory=lambda: Owner("nodes"))
    said: dict[str, Phase.ValueType] = field(default_factory=dict)

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.kind == "alloc" and change.new is not None:
                self.look(keys.parse_alloc(change.key).id)

    def look(self, alloc: str) -> None:
        entry = self.world.cache.alloc(alloc)
        if entry is not None and entry.node not in self.away:
            self.owner.start(self._act(entry), alloc)

    def back(self, node: str) -> None:
        self.away.discard(node)
        for entry in self.world.cache.allocs_of_node(node):
            self.look(entry.id)

    async def _act(self, entry: AllocEntry) -> None:
        await asyncio.sleep(self.delay_s)
        known = self.said.get(entry.id)
        if entry.node in self.away or known in (STOPPED, FAILED):
            return
        if entry.stop:
            await self.say(entry, STOPPED)
        elif known is None:
            await self._start(entry)

    async def _start(self, entry: AllocEntry) -> None:
        if message := self.crash(entry):
            await self.say(entry, FAILED, message)
        else:
            await self.say(entry, RUNNING, healthy=self.healthy(entry))

    async def say(self, entry: AllocEntry, phase: Phase.ValueType, message: str = "", healthy: bool = False) -> None:
        self.said[entry.id] = phase
        now_ms = self.world.clock.now_ms()
        health: Health.ValueType = HEALTHY if healthy else HEALTH_UNKNOWN
        status = AllocStatus(
            alloc=entry.id,
            phase=phase,
            health=health,
            message=message,
            changed_ms=now_ms,
            healthy_since_ms=now_ms if healthy else 0,
            running_since_ms=now_ms if phase == RUNNING else 0,
            job_uid=entry.job_uid,
            group=entry.group,
            index=entry.index,
            attempt=entry.attempt,
        )
        await self.world.store.commit([], [Put(keys.status(entry.node, entry.id), status.SerializeToString())])


class World:
    def __init__(self, settings: ReconcileSettings = FAST) -> None:
        self.clock = SystemClock()
        self.store = MemoryStore(self.clock)
        self.cache = Cache(self.store, self.clock)
        self.leaders = Leaders(self.store)
        self.nodes = Nodes(self)
        self.settings = settings
        self.owner = Owner("world")
        self.reconciler = Reconciler(self.cache, self.leaders, self.clock, random.Random(1), self.settings)
        self._stirred = asyncio.Event()
        self.doubled: list[str] = []

    async def start(self) -> None:
        self.owner.start(self.cache.run(), "cache")
        await self.cache.synced.wait()
        self.cache.subscribe(self.nodes.changed)
        self.cache.subscribe(self._watch)
        self.owner.start(self.reconciler.run(), "reconciler")
        await self.leaders.elect()

    async def close(self) -> None:
        self.leaders.resign()
        await self.nodes.owner.close()
        await self.owner.close()
        await self.store.close()

    def _watch(self, changes: Sequence[Change]) -> None:
        """At every revision that anybody can see: no slot has two attempts that were not told to stop."""
        self._stirred.set()
        for change in changes:
            if change.kind == "alloc" and change.new is not None:
                slot = keys.parse_alloc(change.key).slot
                wanted = [entry for entry in self.cache.attempts_of_slot(slot) if not entry.stop]
                if len(wanted) > 1:
                    self.doubled.append(f"{slot}: {[entry.attempt for entry in wanted]}")

    # -- what people and dispatchers do ----------------------------------------------------------------------------

    async def add_node(self, name: str, *, cpu: int = 4000, memory: int = 4 * GIB, **attributes: str) -> None:
        facts = NodeFacts(name=name, cpu_millis=cpu, memory_bytes=memory, disk_bytes=100 * GIB, attributes=attributes)
        facts.drivers.append("docker")
        await self.put(keys.node_facts(name), facts.SerializeToString())
        await self.node_state(name, NodeState.READY)

    async def node_state(self, name: str, phase: NodeState.Phase.ValueType) -> None:
        since = self.clock.now_ms() if phase == NodeState.LOST else 0
        await self.put(
            keys.node_state(name), NodeState(phase=phase, lost_since_ms=since, name=name, epoch=1).SerializeToString()
        )

    async def lose(self, name: str) -> None:
        self.nodes.away.add(name)
        await self.node_state(name, NodeState.LOST)

    async def heal(self, name: str) -> None:
        await self.node_state(name, NodeState.READY)
        self.nodes.back(name)

    async def node_spec(self, name: str, *, cordoned: bool = False, drain: bool = False) -> None:
        await self.put(keys.node_spec(name), NodeSpec(cordoned=cordoned, drain=drain).SerializeToString())

    async def apply(self, spec: dict[str, Any], name: str = "shop") -> str:
        """Returns the uid."""
        job = parse_job({"name": name, **spec})
        key = keys.job("default", name)
        stored = await self.store.get(key)
        head = Job.FromString(stored.value) if stored else Job(uid=f"uid-{name}-{self.leaders.commits}")
        before = self.cache.version(head.uid, head.version)
        head.version += 1
        hashes = template_hashes(job, before)
        record = encode_version(JobVersion(job, hashes))
        writes = [Put(keys.job_version(head.uid, head.version), record), Put(key, head.SerializeToString())]
        await self._commit(writes)
        return head.uid

    async def delete(self, name: str = "shop") -> None:
        key = keys.job("default", name)
        stored = await self.store.get(key)
        assert stored is not None
        head = Job.FromString(stored.value)
        head.deleting = True
        await self.put(key, head.SerializeToString())

    async def ask(self, uid: str, kind: str, target: str) -> None:
        await self.put(keys.request(uid, "r1"), Request(kind=kind, target=target, principal="ada").SerializeToString())

    async def put(self, key: str, value: bytes) -> None:
        await self._commit([Put(key, value)])

    async def _commit(self, operations: Sequence[Operation]) -> None:
        committed = await self.store.commit([], operations)
        await self.cache.passed(committed.revision)

    # -- what is seen ----------------------------------------------------------------------------------------------

    def running(self, uid: str) -> dict[tuple[str, int], AllocEntry]:
        """Slot -> the attempt that runs there and is wanted."""
        return {
            (entry.group, entry.index): entry
            for entry in self.cache.allocs_of_job(uid)
            if not entry.stop and self.phase(entry) == RUNNING
        }

    def phase(self, entry: AllocEntry) -> Phase.ValueType | None:
        status = self.cache.status(entry.id)
        return status.phase if status is not None else None

    def phase_of(self, key: AllocKey) -> Phase.ValueType | None:
        status = self.cache.status(key.id)
        return status.phase if status is not None else None

    def records(self, uid: str) -> list[AllocKey]:
        return sorted(entry.key for entry in self.cache.allocs_of_job(uid))

    def waiting(self, uid: str) -> dict[tuple[str, int], str]:
        state = self.cache.job_state(uid)
        groups = state.groups if state is not None else ()
        return {(group.group, one.index): one.reason for group in groups for one in group.waiting}

    async def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._stirred.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.02):
                            await self._stirred.wait()
        except TimeoutError:
            raise AssertionError(self._picture()) from None

    async def rest(self, seconds: float = 0.15) -> None:
        """Nothing is written for a while."""
        before = -1
        async with asyncio.timeout(10):
            while before != self.leaders.commits:
                before = self.leaders.commits
                await asyncio.sleep(seconds)

    def _picture(self) -> str:
        lines = [
            f"{entry.group}/{entry.index} attempt {entry.attempt} on {entry.node}"
            f" v{entry.version} stop={entry.stop} phase={self.phase(entry)}"
            for entry in self.cache.allocs()
        ]
        states = [str(self.cache.job_state(entry.uid)) for entry in self.cache.jobs()]
        return "never came about; the world is\n" + "\n".join(lines + states)


@asynccontextmanager
async def world(nodes: Sequence[str] = ("a", "b", "c"), **given: Any) -> AsyncIterator[World]:
    made = World(**given)
    await made.start()
    try:
        for node in nodes:
            await made.add_node(node)
        yield made
        assert made.doubled == []
    finally:
        with suppress(asyncio.CancelledError):
            await made.close()


def spec(count: int = 3, image: str = "shop:1", **group: Any) -> dict[str, Any]:
    """One group of quick habits."""
    return {
        "update": {"min_healthy": "20ms", "max_parallel": 1} | group.pop("update", {}),
        "groups": {
            "web": {
                "count": count,
                "reschedule": {"delay": "20ms", "max_delay": "1s"} | group.pop("reschedule", {}),
                "disconnect": {"replace_after": "100ms"} | group.pop("disconnect", {}),
                "tasks": {"server": {"container": {"image": image}} | group.pop("task", {})},
                **group,
            }
        },
    }
