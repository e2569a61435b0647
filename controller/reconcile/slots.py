"""One attempt at a slot: whether it lives, and, where it ended by itself, when the next one is due.

A crash loop must cost little: the wait doubles with each failure in a row. The count of failures travels from
attempt to attempt in its record, and is forgiven once an attempt ran healthy for a while. An agent may have cleared
the time of health when it reports the end, so one that outlived all that its restart policy could have used up is
forgiven as well.

An attempt that its node stopped of its own accord (it was cut off for longer than `disconnect.stop_on_node_after`, or
found a newer attempt) has not failed: the slot is filled again after the plain delay, whatever the policies for
failures say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from controller.reconcile.values import Attempt, NodeFact, Reschedule
from moorage.kit.backoff import delay_ms
from moorage.wire.store_pb2 import FAILED, HEALTHY, RUNNING, STOPPED


class Life(Enum):
    ALIVE = "alive"
    STOPPING = "stopping"
    LOST = "lost"  # its node is: what it does there is unknown
    ENDED = "ended"


def life(attempt: Attempt, nodes: Mapping[str, NodeFact]) -> Life:
    if attempt.phase == STOPPED or attempt.phase == FAILED or attempt.abandoned:
        return Life.ENDED
    node = nodes.get(attempt.node)
    if node is None:
        return Life.ENDED
    if node.phase == "lost":
        return Life.LOST
    return Life.STOPPING if attempt.stop else Life.ALIVE


def available(attempt: Attempt) -> bool:
    """Of a living one."""
    return attempt.phase == RUNNING and attempt.health == HEALTHY


def ended_by_itself(attempt: Attempt) -> bool:
    return not attempt.stop and (attempt.phase == FAILED or attempt.phase == STOPPED)


def streak(attempt: Attempt, policy: Reschedule) -> int:
    """Failures in a row of its slot, this ended attempt's own among them where it ended by itself."""
    before = 0 if _forgiven(attempt, policy) else attempt.failures
    return before + (1 if ended_by_itself(attempt) and attempt.phase == FAILED else 0)


def _forgiven(attempt: Attempt, policy: Reschedule) -> bool:
    if attempt.healthy_since_ms and attempt.changed_ms - attempt.healthy_since_ms >= policy.reset_ms:
        return True
    return attempt.changed_ms - attempt.created_ms >= policy.outlived_ms


@dataclass(frozen=True, slots=True)
class Retry:
    """When a slot whose attempt ended by itself is filled again; `due_ms` None: it is not, and `reason` says why."""

    due_ms: int | None
    reason: str


def retry(attempt: Attempt, policy: Reschedule) -> Retry:
    failures = streak(attempt, policy)
    if attempt.phase == STOPPED:
        why = attempt.message or "ended by itself"
        due = max(attempt.changed_ms, attempt.created_ms) + policy.delay_ms
        return Retry(due, f"stopped by its node: {why}; next attempt {policy.delay_ms / 1000:g} s after that")
    how = attempt.message or "failed"
    if policy.never:
        return Retry(None, f"{how}; not replaced: restart.mode is fail")
    if policy.attempts is not None and failures > policy.attempts:
        allowed = f"reschedule.attempts allows {policy.attempts}"
        return Retry(None, f"{how}; not replaced: failed {times(failures)} in a row, {allowed}")
    wait = delay_ms(
        failures,
        base_ms=policy.delay_ms,
        cap_ms=max(policy.max_delay_ms, policy.delay_ms),
        exponential=policy.exponential,
    )
    due = max(attempt.changed_ms, attempt.created_ms) + wait
    return Retry(due, f"{how}; failed {times(failures)} in a row, next attempt {wait / 1000:g} s after that")


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
