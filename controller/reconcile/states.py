"""A job's state as people see it: counts, what waits and why, the last ten events. One key, written by the leader.

It is written when it differs from what is stored, after the job has come to rest, at most some five times a second;
a job that never rests gets its turn after a second. Nothing is decided from it but the attempt floors, which is why
those are written before the records that they stand for are removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controller.reconcile.diff import MAX_WAITING
from controller.reconcile.planner import Work
from moorage.wire.store_pb2 import Event, GroupState, JobState, Waiting

MAX_EVENTS = 10


def job_state(work: Work, before: JobState | None, term: str, news: Iterable[Event]) -> JobState:
    """The state that follows from a turn."""
    groups = [_group(state, work.rejected) for state in work.decision.groups]
    state = JobState(term=term, groups=groups, settled_version=before.settled_version if before else 0)
    if work.target.entry is not None and groups and all(_settled(group) for group in groups):
        state.settled_version = work.target.entry.version
    if before is not None:
        state.attempt_floors.update(before.attempt_floors)
    for name, floor in work.decision.floors.items():
        state.attempt_floors[name] = max(floor, state.attempt_floors.get(name, 0))
    state.events.extend(last_events(before.events if before else (), news))
    return state


def _group(state: GroupState, rejected: Mapping[tuple[str, int], str]) -> GroupState:
    waiting = [Waiting(index=i, reason=why) for (group, i), why in rejected.items() if group == state.group]
    if not waiting:
        return state
    merged = GroupState()
    merged.CopyFrom(state)
    del merged.waiting[:]
    both = sorted([*state.waiting, *waiting], key=lambda one: one.index)
    merged.waiting.extend(both[:MAX_WAITING])
    return merged


def _settled(group: GroupState) -> bool:
    return group.healthy == group.wanted == group.updated


def last_events(before: Sequence[Event], news: Iterable[Event]) -> list[Event]:
    """Equal ones are counted, not repeated."""
    events = list(before)
    for event in news:
        same = next((e for e in events if (e.kind, e.message) == (event.kind, event.message)), None)
        if same is None:
            events.append(event)
            continue
        counted = Event()
        counted.CopyFrom(event)
        counted.count = same.count + event.count
        events.remove(same)
        events.append(counted)
    return events[-MAX_EVENTS:]


def differs(state: JobState, before: JobState | None) -> bool:
    """Who wrote it does not count."""
    if before is None:
        return True
    unsigned = JobState()
    unsigned.CopyFrom(before)
    unsigned.term = state.term
    return unsigned != state
