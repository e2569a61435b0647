"""From cache entries to what users read. Pure: entries in, views out; no lookups, no clock.

`model_construct` is not used although it would be faster: a view that is wrong must fail here, not at the reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from moorage.model.view import (
    AllocationView,
    EventView,
    GroupStatusView,
    JobStatusView,
    JobVersionView,
    JobView,
    NodeView,
    OrphanView,
    ResourcesView,
    TaskView,
    WaitingView,
)
from moorage.wire import session_pb2, store_pb2

if TYPE_CHECKING:
    from controller.cache.entries import AllocEntry, NodeEntry, StatusEntry

JobPhase = Literal["pending", "deploying", "running", "degraded", "deleting"]
AllocPhase = Literal["pending", "preparing", "running", "stopping", "stopped", "failed", "lost"]
Health = Literal["unknown", "healthy", "unhealthy"]
NodePhase = Literal["unknown", "ready", "lost"]

ALLOC_PHASES: Mapping[int, AllocPhase] = {
    store_pb2.PHASE_UNSPECIFIED: "pending",
    store_pb2.PENDING: "pending",
    store_pb2.PREPARING: "preparing",
    store_pb2.RUNNING: "running",
    store_pb2.STOPPING: "stopping",
    store_pb2.STOPPED: "stopped",
    store_pb2.FAILED: "failed",
}
HEALTHS: Mapping[int, Health] = {
    store_pb2.HEALTH_UNKNOWN: "unknown",
    store_pb2.HEALTHY: "healthy",
    store_pb2.UNHEALTHY: "unhealthy",
}
NODE_PHASES: Mapping[int, NodePhase] = {
    store_pb2.NodeState.UNKNOWN: "unknown",
    store_pb2.NodeState.READY: "ready",
    store_pb2.NodeState.LOST: "lost",
}
LABEL = "label."


def spec_of(version: bytes) -> dict[str, Any]:
    """The spec out of a stored version record, as it was stored: later defaults change nothing in it.

    Empty where there is none to be found, since a record that nobody can read must not hide all other jobs.
    """
    return _dict(_record(version).get("spec"))


def counts(spec: Mapping[str, Any]) -> dict[str, int]:
    """How many of each group are wanted; also of a spec that only a later release understands."""
    found = {name: _dict(group).get("count", 1) for name, group in _dict(spec.get("groups")).items()}
    return {name: count if isinstance(count, int) else 0 for name, count in found.items()}


def _record(version: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(version))
    except ValueError:
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def job_view(
    project: str, name: str, revision: int, job: store_pb2.Job, spec: dict[str, Any], state: store_pb2.JobState | None
) -> JobView:
    return JobView(
        project=project,
        name=name,
        uid=job.uid,
        version=job.version,
        revision=revision,
        created_ms=job.created_ms,
        changed_ms=job.changed_ms,
        principal=job.principal,
        spec=spec,
        status=job_status(job, spec, state or store_pb2.JobState()),
    )


def job_status(job: store_pb2.Job, spec: dict[str, Any], state: store_pb2.JobState) -> JobStatusView:
    known = {group.group: group for group in state.groups}
    groups = [
        group_status(name, count, known.get(name, store_pb2.GroupState())) for name, count in counts(spec).items()
    ]
    phase = job_phase(job, groups, state.settled_version)
    return JobStatusView(
        phase=phase,
        message="; ".join(filter(None, (state.message, *map(group_message, groups)))),
        groups=groups,
        events=[event_view(event) for event in state.events],
    )


def group_status(name: str, wanted: int, state: store_pb2.GroupState) -> GroupStatusView:
    """`wanted` comes from the spec: the leader's count may be one version behind."""
    waiting = [WaitingView(index=w.index, reason=w.reason, until_ms=w.until_ms or None) for w in state.waiting]
    troubled = [WaitingView(index=w.index, reason=w.reason) for w in state.troubled]
    return GroupStatusView(
        name=name,
        wanted=wanted,
        placed=state.placed,
        running=state.running,
        healthy=state.healthy,
        updated=state.updated,
        failed=state.failed,
        waiting=waiting,
        troubled=troubled,
    )


def job_phase(job: store_pb2.Job, groups: Iterable[GroupStatusView], settled_version: int) -> JobPhase:
    if job.deleting:
        return "deleting"
    groups = list(groups)
    settled = settled_version == job.version
    if settled and all(group.healthy >= group.wanted <= group.updated for group in groups):
        return "running"
    if settled:
        return "degraded"
    return "deploying" if any(group.placed or group.running for group in groups) else "pending"


def group_message(group: GroupStatusView) -> str:
    """What keeps a group from being as wanted; empty where nothing does."""
    parts = [
        f"{len(them)} of {group.wanted} {what}: {' / '.join(dict.fromkeys(one.reason for one in them if one.reason))}"
        for them, what in ((group.waiting, "wait"), (group.troubled, "not healthy"))
        if them
    ]
    if not parts and group.failed:
        parts = [f"{group.failed} failed"]
    return f"{group.name}: {'; '.join(parts)}" if parts else ""


def version_view(project: str, name: str, job: store_pb2.Job, version: int, record: bytes) -> JobVersionView:
    data = _record(record)
    return JobVersionView(
        project=project,
        job=name,
        job_uid=job.uid,
        version=version,
        current=version == job.version,
        created_ms=data.get("created_ms", 0),
        principal=data.get("principal", ""),
        spec=spec_of(record),
    )


def event_view(event: store_pb2.Event) -> EventView:
    return EventView(
        at_ms=event.at_ms,
        kind=event.kind,
        message=event.message,
        project=event.project,
        object=event.object,
        allocation=event.alloc,
        principal=event.principal,
        count=event.count or 1,
    )


def allocation_view(entry: AllocEntry, status: StatusEntry | None, node: NodeEntry | None) -> AllocationView:
    alloc = entry.decode()
    news = status.decode() if status is not None else store_pb2.AllocStatus()
    phase = ALLOC_PHASES[news.phase]
    lost = node is not None and node.state.phase == store_pb2.NodeState.LOST and phase not in ("stopped", "failed")
    return AllocationView(
        id=entry.id,
        project=entry.project,
        job=entry.job,
        job_uid=entry.job_uid,
        group=entry.group,
        index=entry.index,
        attempt=entry.attempt,
        name=f"{entry.job}/{entry.group}/{entry.index}",
        node=entry.node,
        node_name=node.name if node is not None else entry.node,
        version=entry.version,
        phase="lost" if lost else phase,
        health=HEALTHS[news.health],
        desired="stop" if entry.stop else "run",
        message=f"its node {node.name} is lost" if lost and node is not None else news.message,
        why=alloc.why,
        stop_reason=alloc.stop_reason,
        ports=dict(alloc.ports),
        tasks=[task_view(task) for task in news.tasks],
        created_ms=alloc.created_ms,
        revision=entry.revision,
    )


def task_view(task: store_pb2.TaskStatus) -> TaskView:
    ended = task.finished_ms > 0 or task.state in ("exited", "failed")
    return TaskView(
        name=task.name,
        state=task.state,
        health=HEALTHS[task.health],
        exit_code=task.exit_code if ended else None,
        oom_killed=task.oom_killed,
        restarts=task.restarts,
        message=task.message,
        started_ms=task.started_ms,
        finished_ms=task.finished_ms,
        container=task.container,
    )


def node_labels(node: NodeEntry) -> dict[str, str]:
    """Given to the agent at its start, overruled by what people gave since."""
    attributes: Mapping[str, str] = node.facts.attributes if node.facts is not None else {}
    own = {name[len(LABEL) :]: value for name, value in attributes.items() if name.startswith(LABEL)}
    return own | dict(node.spec.labels)


def node_message(node: NodeEntry) -> str:
    """Why nothing (new) is placed there; empty where something can be."""
    parts = []
    if node.state.phase == store_pb2.NodeState.LOST:
        parts.append(f"lost{': ' + node.state.message if node.state.message else ''}")
    elif node.state.phase != store_pb2.NodeState.READY:
        parts.append("never connected")
    if node.spec.drain:
        parts.append("draining")
    elif node.spec.cordoned:
        parts.append("cordoned")
    return ", ".join(parts)


def node_view(
    node: NodeEntry,
    allocated: ResourcesView,
    allocations: int,
    usage: ResourcesView | None,
    orphans: Iterable[session_pb2.Orphan],
) -> NodeView:
    facts = node.facts if node.facts is not None else store_pb2.NodeFacts()
    message = node_message(node)
    return NodeView(
        id=node.id,
        name=node.name,
        phase=NODE_PHASES[node.state.phase],
        schedulable=not message,
        cordoned=node.spec.cordoned,
        draining=node.spec.drain,
        message=message,
        lost_since_ms=node.state.lost_since_ms or None,
        capacity=ResourcesView(
            cpu_millis=facts.cpu_millis, memory_bytes=facts.memory_bytes, disk_bytes=facts.disk_bytes
        ),
        allocated=allocated,
        usage=usage,
        allocations=allocations,
        labels=node_labels(node),
        attributes={name: value for name, value in facts.attributes.items() if not name.startswith(LABEL)},
        drivers=list(facts.drivers),
        missing=dict(facts.missing),
        agent_version=facts.agent_version,
        orphans=[orphan_view(orphan) for orphan in orphans],
        revision=node.spec_revision,
    )


def orphan_view(orphan: session_pb2.Orphan) -> OrphanView:
    return OrphanView(
        allocation=orphan.alloc,
        project=orphan.project,
        job=orphan.job,
        group=orphan.group,
        index=orphan.index,
        attempt=orphan.attempt,
        expires_ms=orphan.expires_ms,
    )
