"""Allocations, statuses, jobs and nodes as the cache keeps them: few columns decoded once, the rest as bytes.

A fleet has tens of thousands of allocations, and an object per field would cost more than the fields. So strings
that many entries share (node, job, group, template hash) are kept once, what can be derived is not kept, and the
encoded message is stored without the fields that are columns. `decode()` gives the whole message back, unknown fields
of a newer release included, for about two microseconds. Entries never change: a change of the store makes a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern

from controller.store.protocol import KeyValue
from moorage.wire import keys
from moorage.wire.spec_pb2 import Resources
from moorage.wire.store_pb2 import FAILED, STOPPED, Alloc, AllocStatus, Job, NodeFacts, NodeSpec, NodeState

TERMINAL = frozenset((STOPPED, FAILED))


class AllocEntry:
    """One attempt at filling a slot, as the leader wants it."""

    __slots__ = (
        "_rest",
        "attempt",
        "created",
        "group",
        "id",
        "index",
        "job",
        "job_uid",
        "node",
        "plan",
        "project",
        "revision",
        "stop",
        "template_hash",
        "version",
    )

    def __init__(self, kv: KeyValue, shared: SharedBytes) -> None:
        message = Alloc.FromString(kv.value)
        uid, self.group, self.index, self.attempt = _alloc_key(kv.key)
        self.job_uid = uid
        self.id = keys.alloc_id(uid, self.group, self.index, self.attempt)
        self.project = intern(message.project)
        self.job = intern(message.job)
        self.node = intern(message.node)
        self.version = message.version
        self.template_hash = shared.once(message.template_hash)
        self.stop = message.stop
        self.plan = intern(message.plan)
        self.revision = kv.revision
        self.created = kv.revision if kv.created == kv.revision else kv.created
        for column in ("project", "job", "node", "template_hash", "plan"):
            message.ClearField(column)
        self._rest = message.SerializeToString()

    @property
    def key(self) -> keys.AllocKey:
        return keys.AllocKey(self.job_uid, self.group, self.index, self.attempt)

    @property
    def slot(self) -> keys.Slot:
        return keys.Slot(self.job_uid, self.group, self.index)

    def decode(self) -> Alloc:
        message = Alloc.FromString(self._rest)
        message.project = self.project
        message.job = self.job
        message.node = self.node
        message.template_hash = self.template_hash
        message.plan = self.plan
        return message

    @property
    def raw(self) -> bytes:
        return self.decode().SerializeToString()

    @property
    def created_ms(self) -> int:
        return Alloc.FromString(self._rest).created_ms

    @property
    def resources(self) -> Resources:
        return Alloc.FromString(self._rest).resources

    @property
    def ports(self) -> Mapping[str, int]:
        return Alloc.FromString(self._rest).ports

    def kv(self) -> KeyValue:
        return KeyValue(self.key.key, self.raw, self.revision, self.created)


class StatusEntry:
    """The newest news of one allocation from its node; `id` is the allocation's."""

    __slots__ = (
        "_rest",
        "created",
        "health",
        "healthy_since_ms",
        "id",
        "job_uid",
        "node",
        "phase",
        "revision",
        "serial",
    )

    def __init__(self, kv: KeyValue, node: str, alloc: str) -> None:
        message = AllocStatus.FromString(kv.value)
        self.node = node
        self.id = alloc
        self.job_uid = intern(message.job_uid)
        self.phase = message.phase
        self.health = message.health
        self.serial = message.serial
        self.healthy_since_ms = message.healthy_since_ms
        self.revision = kv.revision
        self.created = kv.revision if kv.created == kv.revision else kv.created  # one integer where they are equal
        message.ClearField("alloc")
        message.ClearField("job_uid")
        self._rest = message.SerializeToString()

    @property
    def terminal(self) -> bool:
        return self.phase in TERMINAL

    @property
    def changed_ms(self) -> int:
        return AllocStatus.FromString(self._rest).changed_ms

    @property
    def running_since_ms(self) -> int:
        return AllocStatus.FromString(self._rest).running_since_ms

    def decode(self) -> AllocStatus:
        message = AllocStatus.FromString(self._rest)
        message.alloc = self.id
        message.job_uid = self.job_uid
        return message

    @property
    def raw(self) -> bytes:
        return self.decode().SerializeToString()

    def kv(self) -> KeyValue:
        return KeyValue(keys.status(self.node, self.id), self.raw, self.revision, self.created)


class JobEntry:
    """The mutable head of a job; its specs are immutable versions beside it."""

    __slots__ = ("created", "deleting", "name", "project", "raw", "revision", "uid", "version")

    def __init__(self, kv: KeyValue) -> None:
        message = Job.FromString(kv.value)
        self.project, self.name = kv.key[len(keys.JOBS) :].split("/")
        self.uid = intern(message.uid)
        self.version = message.version
        self.deleting = message.deleting
        self.revision = kv.revision
        self.created = kv.created
        self.raw = kv.value

    def decode(self) -> Job:
        return Job.FromString(self.raw)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A host: what people want of it (spec), what the leader knows (state), what it is (facts). Revision 0: no such."""

    id: str
    spec: NodeSpec = field(default_factory=NodeSpec)
    spec_revision: int = 0
    state: NodeState = field(default_factory=NodeState)
    state_revision: int = 0
    facts: NodeFacts | None = None
    facts_revision: int = 0

    @property
    def name(self) -> str:
        return self.state.name or (self.facts.name if self.facts else "") or self.id


class SharedBytes:
    """Keeps equal byte strings once (template hashes), as `sys.intern` does for text."""

    def __init__(self, limit: int = 4096) -> None:
        self._known: dict[bytes, bytes] = {}
        self._limit = limit

    def once(self, value: bytes) -> bytes:
        if len(self._known) >= self._limit:
            self._known.clear()
        return self._known.setdefault(value, value)


def _alloc_key(key: str) -> tuple[str, str, int, int]:
    uid, group, index, attempt = key[len(keys.ALLOCS) :].split("/")
    return intern(uid), intern(group), int(index), int(attempt)
