"""The typed tables of the cache, with the indexes that readers ask for (controller.cache.table: what all have)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from sys import intern

from google.protobuf.message import DecodeError

from controller.cache.entries import AllocEntry, JobEntry, NodeEntry, SharedBytes, StatusEntry
from controller.cache.table import RawTable
from controller.store.protocol import KeyValue
from moorage.wire import keys
from moorage.wire.store_pb2 import NodeFacts, NodeSpec, NodeState

REPORTED: Mapping[str, type[NodeState] | type[NodeFacts]] = {"state": NodeState, "facts": NodeFacts}

Attempts = AllocEntry | tuple[AllocEntry, ...]
"""Of one slot, oldest first. Nearly every slot has just one, which then stands for itself: a tuple costs 64 bytes."""


class ArrivalTable(RawTable):
    """Few, and asked for the newest with each message to an agent."""

    def __init__(self) -> None:
        super().__init__()
        self.ordered: list[tuple[str, int]] = []
        """Ids and the revisions that made them, oldest first."""

    def put(self, kv: KeyValue) -> KeyValue | None:
        old = super().put(kv)
        self._sort()
        return old

    def delete(self, key: str) -> KeyValue | None:
        old = super().delete(key)
        self._sort()
        return old

    def _sort(self) -> None:
        made = ((kv.key[len(keys.ARRIVALS) :], kv.created) for kv in self.items.values())
        self.ordered = sorted(made, key=lambda one: one[1])


class VersionTable(RawTable):
    """Asked for the versions of one job, of which there may be tens of thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._by_uid: dict[str, set[int]] = {}

    def put(self, kv: KeyValue) -> KeyValue | None:
        uid, number = _version_key(kv.key)
        self._by_uid.setdefault(uid, set()).add(number)
        return super().put(kv)

    def delete(self, key: str) -> KeyValue | None:
        uid, number = _version_key(key)
        numbers = self._by_uid.get(uid, set())
        numbers.discard(number)
        if not numbers:
            self._by_uid.pop(uid, None)
        return super().delete(key)

    def numbers(self, uid: str) -> list[int]:
        return sorted(self._by_uid.get(uid, ()))


class JobTable(RawTable):
    def __init__(self) -> None:
        super().__init__()
        self._by_project: dict[str, dict[str, JobEntry]] = {}
        self._by_uid: dict[str, JobEntry] = {}

    def put(self, kv: KeyValue) -> KeyValue | None:
        entry = JobEntry(kv)  # one that cannot be read leaves the one before in place
        old = self.delete(kv.key)
        self._by_project.setdefault(entry.project, {})[entry.name] = entry
        self._by_uid[entry.uid] = entry
        super().put(kv)
        return old

    def delete(self, key: str) -> KeyValue | None:
        project, name = key[len(keys.JOBS) :].split("/")
        entry = self._by_project.get(project, {}).pop(name, None)
        if entry is not None and self._by_uid.get(entry.uid) is entry:
            del self._by_uid[entry.uid]
        if not self._by_project.get(project, True):
            del self._by_project[project]
        return super().delete(key)

    def named(self, project: str, name: str) -> JobEntry | None:
        return self._by_project.get(project, {}).get(name)

    def by_uid(self, uid: str) -> JobEntry | None:
        return self._by_uid.get(uid)

    def entries(self, project: str | None = None) -> Iterable[JobEntry]:
        if project is not None:
            return list(self._by_project.get(project, {}).values())
        return [entry for jobs in self._by_project.values() for entry in jobs.values()]


class NodeTable(RawTable):
    """Three keys make a node."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, NodeEntry] = {}
        self._by_name: dict[str, str] = {}

    def put(self, kv: KeyValue) -> KeyValue | None:
        part = kv.key.rpartition("/")[2]
        if part in REPORTED:
            REPORTED[part].FromString(kv.value)  # one that cannot be read leaves the one before in place
        old = super().put(kv)
        self._rebuild(node_of(kv.key))
        return old

    def delete(self, key: str) -> KeyValue | None:
        old = super().delete(key)
        self._rebuild(node_of(key))
        return old

    def node(self, node_id: str) -> NodeEntry | None:
        return self._nodes.get(node_id)

    def by_name(self, name: str) -> NodeEntry | None:
        node_id = self._by_name.get(name)
        return self._nodes.get(node_id) if node_id is not None else None

    def entries(self) -> Iterable[NodeEntry]:
        return list(self._nodes.values())

    def _rebuild(self, node_id: str) -> None:
        old = self._nodes.pop(node_id, None)
        if old is not None and self._by_name.get(old.name) == node_id:
            del self._by_name[old.name]
        spec, state, facts = (
            self.items.get(key(node_id)) for key in (keys.node_spec, keys.node_state, keys.node_facts)
        )
        if not (spec or state or facts):
            return
        self._nodes[node_id] = entry = NodeEntry(
            id=node_id,
            spec=_node_spec(spec) if spec else NodeSpec(),
            spec_revision=spec.revision if spec else 0,
            state=NodeState.FromString(state.value) if state else NodeState(),
            state_revision=state.revision if state else 0,
            facts=NodeFacts.FromString(facts.value) if facts else None,
            facts_revision=facts.revision if facts else 0,
        )
        self._by_name[entry.name] = node_id


class AllocTable:
    """By id, by node, and by job: group: index: attempts, oldest first."""

    def __init__(self) -> None:
        self._shared = SharedBytes()
        self._by_id: dict[str, AllocEntry] = {}
        self._by_node: dict[str, dict[str, AllocEntry]] = {}
        self._by_job: dict[str, dict[str, dict[int, Attempts]]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def put(self, kv: KeyValue) -> KeyValue | None:
        entry = AllocEntry(kv, self._shared)
        old = self._by_id.get(entry.id)
        if old is not None:
            self._unlink(old)
        self._by_id[entry.id] = entry
        self._by_node.setdefault(entry.node, {})[entry.id] = entry
        indexes = self._by_job.setdefault(entry.job_uid, {}).setdefault(entry.group, {})
        indexes[entry.index] = _packed(sorted((*_unpacked(indexes.get(entry.index)), entry), key=_attempt))
        return old.kv() if old is not None else None

    def delete(self, key: str) -> KeyValue | None:
        entry = self._by_id.pop(keys.parse_alloc(key).id, None)
        if entry is None:
            return None
        self._unlink(entry)
        return entry.kv()

    def get(self, key: str) -> KeyValue | None:
        entry = self._by_id.get(keys.parse_alloc(key).id)
        return entry.kv() if entry is not None else None

    def revision(self, key: str) -> int:
        try:
            entry = self._by_id.get(keys.parse_alloc(key).id)
        except ValueError:
            return 0  # a key of another shape is in no table
        return entry.revision if entry is not None else 0

    def keys(self) -> Iterator[str]:
        return (entry.key.key for entry in list(self._by_id.values()))

    def by_id(self, alloc: str) -> AllocEntry | None:
        return self._by_id.get(alloc)

    def entries(self) -> Iterable[AllocEntry]:
        return list(self._by_id.values())

    def of_node(self, node: str) -> Iterable[AllocEntry]:
        return list(self._by_node.get(node, {}).values())

    def of_job(self, uid: str) -> Iterable[AllocEntry]:
        return [
            entry
            for indexes in self._by_job.get(uid, {}).values()
            for attempts in indexes.values()
            for entry in _unpacked(attempts)
        ]

    def of_slot(self, uid: str, group: str, index: int) -> tuple[AllocEntry, ...]:
        """All attempts, oldest first."""
        return _unpacked(self._by_job.get(uid, {}).get(group, {}).get(index))

    def _unlink(self, entry: AllocEntry) -> None:
        on_node = self._by_node[entry.node]
        del on_node[entry.id]
        if not on_node:
            del self._by_node[entry.node]
        groups = self._by_job[entry.job_uid]
        indexes = groups[entry.group]
        left = [other for other in _unpacked(indexes[entry.index]) if other is not entry]
        if left:
            indexes[entry.index] = _packed(left)
            return
        del indexes[entry.index]
        if not indexes:
            del groups[entry.group]
        if not groups:
            del self._by_job[entry.job_uid]


class StatusTable:
    def __init__(self, allocs: AllocTable) -> None:
        self._allocs = allocs
        self._by_alloc: dict[str, StatusEntry] = {}

    def put(self, kv: KeyValue) -> KeyValue | None:
        node, alloc = kv.key[len(keys.STATUSES) :].split("/")
        old = self._by_alloc.get(alloc)
        known = self._allocs.by_id(alloc) or old
        shared = alloc if known is None else known.id  # a fleet's ids are held once
        self._by_alloc[shared] = StatusEntry(kv, intern(node), shared)
        return old.kv() if old is not None else None

    def delete(self, key: str) -> KeyValue | None:
        entry = self._by_alloc.pop(key.rpartition("/")[2], None)
        return entry.kv() if entry is not None else None

    def get(self, key: str) -> KeyValue | None:
        entry = self._by_alloc.get(key.rpartition("/")[2])
        return entry.kv() if entry is not None else None

    def revision(self, key: str) -> int:
        entry = self._by_alloc.get(key.rpartition("/")[2])
        return entry.revision if entry is not None else 0

    def keys(self) -> Iterator[str]:
        return (keys.status(entry.node, entry.id) for entry in list(self._by_alloc.values()))

    def of(self, alloc: str) -> StatusEntry | None:
        return self._by_alloc.get(alloc)


def _packed(attempts: Sequence[AllocEntry]) -> Attempts:
    return attempts[0] if len(attempts) == 1 else tuple(attempts)


def _unpacked(attempts: Attempts | None) -> tuple[AllocEntry, ...]:
    if attempts is None:
        return ()
    return attempts if isinstance(attempts, tuple) else (attempts,)


def _version_key(key: str) -> tuple[str, int]:
    """Raises ValueError."""
    uid, number = key[len(keys.JOB_VERSIONS) :].split("/")
    return uid, int(number)


def _node_spec(kv: KeyValue) -> NodeSpec:
    """Where nobody can read what people want of a node, nothing new is placed there."""
    try:
        return NodeSpec.FromString(kv.value)
    except DecodeError:
        return NodeSpec(cordoned=True)


def node_of(key: str) -> str:
    return key[len(keys.NODES) :].partition("/")[0]


def _attempt(entry: AllocEntry) -> int:
    return entry.attempt
