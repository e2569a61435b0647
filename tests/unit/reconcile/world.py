"""Words for scenarios: a job input built from few facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.reconcile.values import Attempt, Decision, GroupPolicy, JobInput, NodeFact, Reschedule
from moorage.wire.keys import AllocKey
from moorage.wire.store_pb2 import FAILED, HEALTH_UNKNOWN, HEALTHY, PENDING, RUNNING, STOPPED, UNHEALTHY

UID = "u1"
NOW = 1_700_000_000_000
OLD, NEW = b"old", b"new"

READY = NodeFact("n")
DRAINING = NodeFact("n", draining=True)


def lost(since_ms: int = NOW) -> NodeFact:
    return NodeFact("n", phase="lost", lost_since_ms=since_ms, state_revision=7)


def policy(count: int = 3, **given: Any) -> GroupPolicy:
    given.setdefault("template_hash", NEW)
    return GroupPolicy(count=count, **given)


def attempt(index: int, number: int = 1, *, node: str = "a", **given: Any) -> Attempt:
    key = AllocKey(UID, given.pop("group", "web"), index, number)
    given.setdefault("template_hash", NEW)
    given.setdefault("created_ms", NOW - 3_600_000)
    given.setdefault("version", 2)
    return Attempt(key=key, id=key.id, revision=10 + index, node=node, **given)


def healthy(index: int, number: int = 1, *, for_ms: int = 60_000, **given: Any) -> Attempt:
    return attempt(index, number, phase=RUNNING, health=HEALTHY, healthy_since_ms=NOW - for_ms, **given)


def unhealthy(index: int, number: int = 1, **given: Any) -> Attempt:
    return attempt(index, number, phase=RUNNING, health=UNHEALTHY, **given)


def starting(index: int, number: int = 1, **given: Any) -> Attempt:
    return attempt(index, number, phase=PENDING, health=HEALTH_UNKNOWN, **given)


def failed(index: int, number: int = 1, *, ago_ms: int = 0, lived_ms: int = 1000, **given: Any) -> Attempt:
    ended = NOW - ago_ms
    return attempt(index, number, phase=FAILED, changed_ms=ended, created_ms=ended - lived_ms, **given)


def stopped(index: int, number: int = 1, *, asked: bool = True, **given: Any) -> Attempt:
    given.setdefault("created_ms", NOW - 1000)
    return attempt(index, number, phase=STOPPED, stop=asked, changed_ms=NOW, **given)


def job(
    attempts: Sequence[Attempt],
    web: GroupPolicy | None = None,
    *,
    nodes: Mapping[str, NodeFact] | None = None,
    **given: Any,
) -> JobInput:
    """One group, `web`. Nodes not named are ready; a node given as None was forgotten."""
    facts = {a.node: READY for a in attempts} | dict(nodes or {})
    groups = {"web": web or policy()}
    return JobInput(uid=UID, version=2, groups=groups, attempts=attempts, nodes=facts, **given)


def never(**given: Any) -> Reschedule:
    return Reschedule(never=True, **given)


def placed(decision: Decision) -> list[tuple[int, int]]:
    return [(p.key.index, p.key.attempt) for p in decision.place]


def stops(decision: Decision) -> list[tuple[int, str]]:
    return [(s.attempt.key.index, s.reason) for s in decision.stop]


def reasons(decision: Decision) -> dict[int, str]:
    return {w.index: w.reason for w in decision.groups[0].waiting}
