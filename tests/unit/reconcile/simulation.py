"""A cluster as a value: a store of one dictionary, a cache that lags behind it, nodes that act when told to.

The parts under test are the real ones (reader, diff, scheduler, steps) and only what surrounds them is simulated, so
thousands of histories can be tried. What must hold in every one of them is checked at each write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cache import Cache
from controller.reconcile import steps
from controller.reconcile.diff import diff
from controller.reconcile.planner import members
from controller.reconcile.policy import CompiledJobs, ask
from controller.reconcile.read import Reader, Target
from controller.reconcile.slots import Life, available, life
from controller.reconcile.steps import Stamp, Step, Transaction
from controller.reconcile.values import Attempt, Decision, Place
from controller.store.memory import MemoryStore
from controller.store.protocol import Absent, Changes, CreatedAt, Delete, Guard, KeyValue, Operation, Put, Unchanged
from moorage.kit.clock import ManualClock
from moorage.model import JobVersion, decode_version, encode_version, parse_job, template_hashes
from moorage.wire import keys
from moorage.wire.store_pb2 import (
    FAILED,
    HEALTH_UNKNOWN,
    HEALTHY,
    PENDING,
    RUNNING,
    STOPPED,
    Alloc,
    AllocStatus,
    Health,
    Job,
    JobState,
    NodeFacts,
    NodeSpec,
    NodeState,
    Phase,
)
from scheduler import place

GIB = 1 << 30
JOB_KEY = keys.job("default", "shop")


class Time(ManualClock):
    """Nobody sleeps here, so time can simply pass."""

    def passes(self, seconds: float) -> None:
        self._now_ms += seconds * 1000


@dataclass
class Simulation:
    clock: Time = field(default_factory=Time)
    data: dict[str, KeyValue] = field(default_factory=dict)
    revision: int = 1
    backlog: list[Changes] = field(default_factory=list)  # what the cache has not heard yet
    used: set[keys.AllocKey] = field(default_factory=set)
    own: int = 0  # the leader's last write

    def __post_init__(self) -> None:
        self.cache = Cache(MemoryStore(self.clock), self.clock)
        self.reader = Reader(self.cache, CompiledJobs(self.cache.version), keep_failed_ms=60_000)

    # -- the store -------------------------------------------------------------------------------------------------

    def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> bool:
        if not all(map(self._holds, guards)):
            return False
        self.revision += 1
        puts: list[KeyValue] = []
        deletes: list[str] = []
        for operation in operations:
            if isinstance(operation, Put):
                puts.append(self._put(operation))
            elif self.data.pop(operation.key, None) is not None:
                deletes.append(operation.key)
        self.backlog.append(Changes(puts, deletes, self.revision))
        self._never_doubled()
        return True

    def _holds(self, guard: Guard) -> bool:
        kv = self.data.get(guard.key)
        match guard:
            case Absent():
                return kv is None
            case Unchanged():
                return kv is not None and kv.revision == guard.revision
            case CreatedAt():
                return kv is not None and kv.created == guard.revision

    def _put(self, put: Put) -> KeyValue:
        before = self.data.get(put.key)
        if before is None and put.key.startswith(keys.ALLOCS):
            key = keys.parse_alloc(put.key)
            assert key not in self.used, f"{key} was used before"
            self.used.add(key)
        kv = KeyValue(put.key, put.value, self.revision, before.created if before else self.revision)
        self.data[put.key] = kv
        return kv

    def _never_doubled(self) -> None:
        wanted: set[keys.Slot] = set()
        for key, alloc in self.allocs():
            if not alloc.stop:
                assert key.slot not in wanted, f"two attempts of {key.slot} are wanted"
                wanted.add(key.slot)

    def allocs(self) -> list[tuple[keys.AllocKey, Alloc]]:
        return [
            (keys.parse_alloc(key), Alloc.FromString(kv.value))
            for key, kv in self.data.items()
            if key.startswith(keys.ALLOCS)
        ]

    def hear(self, batches: int | None = None) -> None:
        """The cache hears of some of what has happened; None: of all."""
        heard = self.backlog[:batches]
        del self.backlog[: len(heard)]
        for batch in heard:
            self.cache.apply(batch)

    # -- people, dispatcher, nodes ---------------------------------------------------------------------------------

    def node(self, name: str, phase: NodeState.Phase.ValueType = NodeState.READY) -> None:
        facts = NodeFacts(name=name, cpu_millis=64_000, memory_bytes=64 * GIB, disk_bytes=GIB, drivers=["docker"])
        since = self.clock.now_ms() if phase == NodeState.LOST else 0
        state = NodeState(phase=phase, lost_since_ms=since, name=name)
        self.commit([], [Put(keys.node_facts(name), facts.SerializeToString())])
        self.commit([], [Put(keys.node_state(name), state.SerializeToString())])

    def phase(self, name: str) -> NodeState.Phase.ValueType | None:
        kv = self.data.get(keys.node_state(name))
        return NodeState.FromString(kv.value).phase if kv else None

    def forget(self, name: str) -> None:
        self.commit([], [Delete(key(name)) for key in (keys.node_spec, keys.node_state, keys.node_facts)])

    def drain(self, name: str, drain: bool) -> None:
        self.commit([], [Put(keys.node_spec(name), NodeSpec(drain=drain).SerializeToString())])

    def apply(self, spec: dict[str, Any]) -> None:
        job = parse_job({"name": "shop", **spec})
        stored = self.data.get(JOB_KEY)
        head = Job.FromString(stored.value) if stored else Job(uid=f"u{self.revision}")
        before = self.data.get(keys.job_version(head.uid, head.version))
        head.version += 1
        hashes = template_hashes(job, decode_version(before.value) if before else None)
        record = Put(keys.job_version(head.uid, head.version), encode_version(JobVersion(job, hashes)))
        self.commit([], [record, Put(JOB_KEY, head.SerializeToString())])

    def head(self) -> Job | None:
        kv = self.data.get(JOB_KEY)
        return Job.FromString(kv.value) if kv else None

    def delete(self) -> None:
        head = self.head()
        assert head is not None
        head.deleting = True
        self.commit([], [Put(JOB_KEY, head.SerializeToString())])

    def status(self, key: keys.AllocKey, node: str) -> AllocStatus | None:
        kv = self.data.get(keys.status(node, key.id))
        return AllocStatus.FromString(kv.value) if kv else None

    def act(self, key: keys.AllocKey, alloc: Alloc, fails: bool = False) -> bool:
        """One step of an allocation's life on its node, as the node's state allows; whether there was one."""
        if self.phase(alloc.node) != NodeState.READY:
            return False
        before = self.status(key, alloc.node) or AllocStatus(alloc=key.id, job_uid=key.job_uid)
        step = _next(before, alloc.stop, fails)
        if step is None:
            return False
        before.phase, before.health = step
        before.changed_ms = self.clock.now_ms()
        before.healthy_since_ms = self.clock.now_ms() if before.health == HEALTHY else 0
        return self.commit([], [Put(keys.status(alloc.node, key.id), before.SerializeToString())])

    # -- the leader ------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """A job is not read again before the cache has passed the leader's own last write."""
        while self.backlog and self.cache.revision < self.own:
            self.hear(1)

    def turn(self, interrupted_after: int | None = None) -> Decision | None:
        """One turn of the job; the leadership may end after so many commits. Then a new one begins, caught up."""
        self.catch_up()
        uids = {alloc.job_uid for alloc in self.cache.allocs()} | {job.uid for job in self.cache.jobs()}
        decision = None
        for uid in sorted(uids):
            target = self.reader.read(uid, self.clock.now_ms())
            if target is None:
                continue
            decision = diff(target.view, self.clock.now_ms())
            _within_limits(target, decision)
            self._after_the_end(target, decision)
            for transaction in self._transactions(target, decision)[:interrupted_after]:
                self.commit(transaction.guards, transaction.operations)
                self.own = self.revision
        if interrupted_after is not None:
            self.own = self.revision
        return decision

    def _after_the_end(self, target: Target, decision: Decision) -> None:
        """A slot is filled again only when what was there has ended, or its node cannot be asked."""
        for one in decision.place:
            if (old := one.replaces) is not None and not one.lost and old.node in target.view.nodes:
                status = self.status(old.key, old.node)
                assert status is not None
                assert status.phase in (STOPPED, FAILED)

    def _transactions(self, target: Target, decision: Decision) -> list[Transaction]:
        """In an order and packing that is worse than the real one: a transaction a step."""
        stamp, record = Stamp("t", self.clock.now_ms()), self._record
        common = steps.job_guards(target.entry)
        if decision.finished:
            return [Transaction([], common, self._traces(target))]
        found: list[Step | None] = [steps.stop(one, record, stamp) for one in decision.stop]
        found.extend(steps.update(one, target.view.version, record, stamp) for one in decision.update)
        found.extend(self._places(target, decision.place, stamp))
        found.extend(steps.collect(one, one.node not in target.view.nodes) for one in decision.collect)
        planned = [Transaction([one.alloc], [*common, *one.guards], one.operations) for one in found if one]
        return [*self._floors(target, decision, common), *planned]

    def _floors(self, target: Target, decision: Decision, common: list[Guard]) -> list[Transaction]:
        if not decision.floors:
            return []
        key = keys.job_state(target.uid)
        kv = self.cache.get(key)
        state = JobState.FromString(kv.value) if kv else JobState()
        state.attempt_floors.update(decision.floors)
        guards = [*common, steps.unchanged(key, kv.revision if kv else 0)]
        return [Transaction([], guards, [Put(key, state.SerializeToString())])]

    def _places(self, target: Target, wanted: list[Place], stamp: Stamp) -> list[Step | None]:
        compiled = target.compiled
        if not wanted or compiled is None:
            return []
        by_index = {one.key.index: one for one in wanted}
        avoid = {index: one.avoid for index, one in by_index.items()}
        request = ask(compiled.requests["web"], list(by_index), avoid, members(target, "web"))
        [plan] = place(self.cache.snapshot, [replace(request)], self.revision)
        found = []
        for placement in plan.placements:
            node = self.cache.node(placement.node)
            assert node is not None
            guard = steps.unchanged(keys.node_spec(node.id), node.spec_revision)
            wants = compiled.resources["web"]
            one = by_index[placement.index]
            found.append(steps.place(one, placement, guard, target, wants, self._record, stamp))
        return found

    def _traces(self, target: Target) -> list[Operation]:
        doomed = [key for key in self.data if f"/{target.uid}" in key]
        doomed.extend(keys.status(a.node, a.id) for a in target.view.attempts)
        return [*(Delete(key) for key in doomed), *([Delete(JOB_KEY)] if target.entry else [])]

    def _record(self, attempt: Attempt) -> Alloc | None:
        entry = self.cache.alloc(attempt.id)
        return entry.decode() if entry else None


def _next(before: AllocStatus, stop: bool, fails: bool) -> tuple[Phase.ValueType, Health.ValueType] | None:
    if before.phase in (STOPPED, FAILED):
        return None
    if stop:
        return STOPPED, HEALTH_UNKNOWN
    if fails:
        return FAILED, HEALTH_UNKNOWN
    if before.phase == PENDING:
        return RUNNING, HEALTH_UNKNOWN
    if before.phase != RUNNING:
        return PENDING, HEALTH_UNKNOWN
    return (RUNNING, HEALTHY) if before.health != HEALTHY else None


def _within_limits(target: Target, decision: Decision) -> None:
    """What serves is stopped only as far as the group's limits allow, whatever else is unavailable."""
    for name, policy in target.view.groups.items():
        serving = {
            attempt.id
            for attempt in target.view.attempts
            if attempt.key.group == name
            and attempt.key.index < policy.count
            and life(attempt, target.view.nodes) is Life.ALIVE
            and available(attempt)
        }
        taken = {stop.attempt.id for stop in decision.stop} & serving
        if taken:
            unavailable = policy.count - len(serving) + len(taken)
            assert unavailable <= max(policy.max_parallel, policy.max_unavailable)
