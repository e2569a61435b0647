"""Which jobs a change of the store concerns. Called for every change there is, so it looks before it decodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controller.cache import Cache, Change
from moorage.wire import keys
from moorage.wire.store_pb2 import Job, NodeSpec, NodeState


@dataclass(slots=True)
class Routed:
    """`specs` are jobs whose wishes changed: they do not wait. `capacity`: jobs that found no room may find it now."""

    specs: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    capacity: bool = False
    wishes: bool = False
    cluster: bool = False
    nodes: list[tuple[str, NodeState | None, NodeState | None]] = field(default_factory=list)  # id, old and new state
    orphans: list[str] = field(default_factory=list)  # keys of statuses without allocation
    versions: set[str] = field(default_factory=set)  # jobs with a new version


def route(cache: Cache, changes: Sequence[Change]) -> Routed:
    routed = Routed()
    for change in changes:
        match change.kind:
            case "status":
                _status(cache, change, routed)
            case "alloc":
                _alloc(cache, change, routed)
            case "job":
                _job(change, routed)
            case "node":
                _node(cache, change, routed)
            case "request":
                routed.wishes |= change.new is not None
            case "cluster":
                routed.cluster = True
            case "jobver":
                routed.versions.add(_uid(change.key, keys.JOB_VERSIONS))
            case "plan":
                routed.jobs.update(_of_plan(cache, change.key[len(keys.PLANS) :]))
    return routed


def _status(cache: Cache, change: Change, routed: Routed) -> None:
    alloc = change.key.rpartition("/")[2]
    entry = cache.alloc(alloc)
    if entry is not None:
        routed.jobs.add(entry.job_uid)
        status = cache.status(alloc)
        routed.capacity |= status is not None and status.terminal
    elif change.new is not None:
        routed.orphans.append(change.key)


def _alloc(cache: Cache, change: Change, routed: Routed) -> None:
    routed.jobs.add(_uid(change.key, keys.ALLOCS))
    if change.new is None:
        routed.capacity = True
        key = keys.parse_alloc(change.key)
        status = cache.status(key.id)
        if status is not None:
            routed.orphans.append(keys.status(status.node, key.id))


def _job(change: Change, routed: Routed) -> None:
    for kv in (change.old, change.new):
        if kv is not None:
            routed.specs.add(Job.FromString(kv.value).uid)


def _node(cache: Cache, change: Change, routed: Routed) -> None:
    """A new session changes a node's epoch and nothing that concerns jobs: five hundred reconnect at once."""
    node, _, part = change.key[len(keys.NODES) :].partition("/")
    concerns = False
    if part == "state":
        old = NodeState.FromString(change.old.value) if change.old else None
        new = NodeState.FromString(change.new.value) if change.new else None
        concerns = _phase(old) != _phase(new)
        if concerns:
            routed.nodes.append((node, old, new))
    elif part == "spec":
        concerns = _drains(change.old.value if change.old else b"") != _drains(change.new.value if change.new else b"")
        routed.capacity = True
    else:
        routed.capacity = True
    if concerns:
        routed.capacity = True
        routed.jobs.update(entry.job_uid for entry in cache.allocs_of_node(node))


def _phase(state: NodeState | None) -> tuple[int, int] | None:
    return (state.phase, state.lost_since_ms) if state is not None else None


def _drains(spec: bytes) -> bool:
    return NodeSpec.FromString(spec).drain


def _of_plan(cache: Cache, plan: str) -> Iterable[str]:
    return {entry.job_uid for entry in cache.allocs() if entry.plan == plan}


def _uid(key: str, prefix: str) -> str:
    return key[len(prefix) :].partition("/")[0]
