"""What a turn did to a job, as events in the user's words. Only what was committed is told.

What was placed or stopped names whoever changed the job last; what failed did so by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import structlog

from controller.cache import JobEntry
from controller.reconcile.planner import Work
from moorage.wire.store_pb2 import Event

NAMED = 4
"""Allocations that one message names; the rest is a number."""

log = structlog.get_logger()

NodeName = Callable[[str], str]


def of_turn(work: Work, committed: Collection[str], node_name: NodeName, now_ms: int) -> list[Event]:
    return [
        *_placed(work, committed, node_name, now_ms),
        *_stopped(work, committed, node_name, now_ms),
    ]


def _placed(work: Work, committed: Collection[str], node_name: NodeName, now_ms: int) -> Iterator[Event]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for one in work.placed:
        key = one.place.key
        if key.id in committed:
            where = f"{key.group}/{key.index} on {node_name(one.placement.node)}"
            groups.setdefault(key.group, []).append((where, key.id))
    for named in groups.values():
        yield _event(work, "placed", f"placed {few([text for text, _ in named])}", now_ms, [id for _, id in named])


def _stopped(work: Work, committed: Collection[str], node_name: NodeName, now_ms: int) -> Iterator[Event]:
    reasons: dict[str, list[tuple[str, str]]] = {}
    for one in work.decision.stop:
        key = one.attempt.key
        if one.attempt.id in committed:
            what = f"{key.group}/{key.index} on {node_name(one.attempt.node)}"
            reasons.setdefault(one.reason, []).append((what, one.attempt.id))
    for reason, named in reasons.items():
        text = f"stopping {few([text for text, _ in named])}: {reason}"
        yield _event(work, "stopped", text, now_ms, [id for _, id in named])


def log_turn(work: Work, committed: Collection[str], failed: Collection[str], node_name: NodeName) -> None:
    """A line for each allocation, so that a log can be searched for it. `failed` are those not told before."""
    job = {"project": work.target.project, "job": work.target.name}
    for placed in work.placed:
        if (key := placed.place.key).id in committed:
            slot = {"group": key.group, "index": key.index}
            log.info("placed", **job, allocation=key.id, node=node_name(placed.placement.node), **slot)
    for stop in work.decision.stop:
        if (attempt := stop.attempt).id in committed:
            log.info("stopping", **job, allocation=attempt.id, node=node_name(attempt.node), reason=stop.reason)
    for failure in work.decision.failures:
        if (attempt := failure.attempt).id in failed:
            log.info("failed", **job, allocation=attempt.id, node=node_name(attempt.node), reason=failure.message)


def failures(work: Work, told: Collection[str], node_name: NodeName, now_ms: int) -> list[Event]:
    """Of attempts that ended by themselves, those that were not told before."""
    return [
        _event(
            work,
            "failed",
            f"{one.attempt.key.group}/{one.attempt.key.index} on {node_name(one.attempt.node)}: {one.message}",
            one.attempt.changed_ms,
            [one.attempt.id],
        )
        for one in work.decision.failures
        if one.attempt.id not in told
    ]


def unreadable(entry: JobEntry, message: str, now_ms: int) -> Event:
    return Event(
        at_ms=now_ms, kind="unreadable", message=message, project=entry.project, object=f"job/{entry.name}", count=1
    )


def few(what: Iterable[str]) -> str:
    """The first ones by name, the rest as a number."""
    all_of_it = list(what)
    more = f" and {len(all_of_it) - NAMED} more" if len(all_of_it) > NAMED else ""
    return ", ".join(all_of_it[:NAMED]) + more


def _event(work: Work, kind: str, message: str, at_ms: int, allocs: list[str]) -> Event:
    entry = work.target.entry
    return Event(
        at_ms=at_ms,
        kind=kind,
        message=message,
        principal=entry.decode().principal if entry is not None and kind != "failed" else "",
        project=work.target.project,
        object=f"job/{work.target.name}",
        alloc=allocs[0] if len(allocs) == 1 else "",
        count=1,
    )
