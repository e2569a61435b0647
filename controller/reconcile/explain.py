"""Why each slot of a job is where it is, or what it waits for: the answer to `moor explain`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controller.cache import AllocEntry, Cache, JobEntry
from controller.reconcile.policy import request_of
from moorage.model import Job
from moorage.model.view import ExplainView, NodeVerdictView, SlotExplainView
from moorage.wire.compile import compile_resources
from moorage.wire.keys import Slot
from moorage.wire.store_pb2 import FAILED, STOPPED, NodeState, Phase
from scheduler import NodeVerdict
from scheduler import explain as verdicts

MAX_SLOTS = 200
"""Of a group: who has more looks at the first ones."""


def explain(cache: Cache, project: str, name: str) -> ExplainView:
    """Verdicts of nodes are given for slots that wait, once per group: its slots are alike. Raises KeyError."""
    entry = cache.job(project, name)
    if entry is None:
        raise KeyError(name)
    version = cache.version(entry.uid, entry.version)
    slots = list(_slots(cache, entry, version.spec)) if version is not None else []
    return ExplainView(project=project, job=name, slots=slots)


def _slots(cache: Cache, entry: JobEntry, job: Job) -> Iterator[SlotExplainView]:
    reasons = _reasons(cache, entry.uid)
    for group, spec in job.groups.items():
        nodes: list[NodeVerdictView] | None = None
        for index in range(min(spec.count, MAX_SLOTS)):
            alloc = cache.newest_of_slot(Slot(entry.uid, group, index))
            slot = _slot(cache, group, index, alloc, reasons.get((group, index), ""))
            if slot.state == "waiting":
                nodes = _nodes(cache, entry.uid, job, group) if nodes is None else nodes
                slot = slot.model_copy(update={"nodes": nodes})
            yield slot


def _slot(cache: Cache, group: str, index: int, alloc: AllocEntry | None, waits: str) -> SlotExplainView:
    if alloc is None:
        return SlotExplainView(group=group, index=index, state="waiting", reason=waits or "not yet looked at")
    state, ended = _state(cache, alloc)
    node = cache.node(alloc.node)
    return SlotExplainView(
        group=group,
        index=index,
        allocation=alloc.id,
        node_name=node.name if node is not None else alloc.node,
        attempt=alloc.attempt,
        state="waiting" if waits and ended else state,
        reason=waits or alloc.decode().why,
    )


def _state(cache: Cache, alloc: AllocEntry) -> tuple[str, bool]:
    """In a user's word, and whether it has ended (or may have, on a node that is lost or forgotten)."""
    status, node = cache.status(alloc.id), cache.node(alloc.node)
    if status is not None and status.phase in (FAILED, STOPPED):
        return Phase.Name(status.phase).lower(), True
    if node is None or node.state.phase == NodeState.LOST:
        return "lost", True
    if alloc.stop:
        return "stopping", False
    return (Phase.Name(status.phase).lower() if status is not None else "pending"), False


def _reasons(cache: Cache, uid: str) -> dict[tuple[str, int], str]:
    state = cache.job_state(uid)
    if state is None:
        return {}
    return {(group.group, waiting.index): waiting.reason for group in state.groups for waiting in group.waiting}


def _nodes(cache: Cache, uid: str, job: Job, group: str) -> list[NodeVerdictView]:
    members: dict[str, int] = {}
    for alloc in cache.allocs_of_job(uid):
        if alloc.group == group and not _state(cache, alloc)[1]:
            members[alloc.node] = members.get(alloc.node, 0) + 1
    wants = request_of(uid, job, group, compile_resources(job, group))
    return [_verdict(one) for one in verdicts(cache.snapshot, replace(wants, indexes=(0,), members=members), 0)]


def _verdict(one: NodeVerdict) -> NodeVerdictView:
    return NodeVerdictView(node_name=one.name, fits=one.fits, score=one.score if one.fits else None, reason=one.reason)
