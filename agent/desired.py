"""What is wanted of one allocation at this moment, from the journal's row and the state of the node.

Absence is not stop: an allocation ends because that was said, because a newer attempt at its slot is known here,
because it was an orphan for all of its grace, or because its job wants it to end on a node that is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.journal import Row
from agent.state import Desired

NEVER = -1


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of one allocation on its node. `alone_since_ms`: since when no controller is heard; None while one is."""

    superseded_by: int | None = None  # the newer attempt at the same slot that is known here
    alone_since_ms: int | None = None
    forgotten: bool = False
    dropped: bool = False  # an operator ended this orphan's grace


def desired(row: Row, around: Circumstances, now_ms: int) -> Desired:
    spec = row.assignment.spec if row.assignment.HasField("spec") else None
    newer = around.superseded_by
    clear = around.forgotten or newer is not None
    if newer is not None:
        return Desired(spec, run=False, reason=f"superseded by attempt {newer}", at_once=True, clear=clear)
    if row.assignment.stop:
        reason = row.assignment.stop_reason
        return Desired(spec, run=False, reason=reason, at_once=reason == "superseded", clear=clear)
    if around.dropped or 0 < row.orphan_expires_ms <= now_ms:
        return Desired(spec, run=False, reason="unknown to the controller, and its grace is over", clear=clear)
    if (limit := _alone_limit_ms(row, around)) is not None and limit <= now_ms:
        seconds = row.assignment.spec.disconnect.stop_on_node_after_ms / 1000
        return Desired(spec, run=False, reason=f"no controller was heard for {seconds:g} s", clear=clear)
    return Desired(spec, clear=clear)


def changes_at_ms(row: Row, around: Circumstances, now_ms: int) -> int | None:
    """When the passing of time alone will change what is wanted."""
    limits = [row.orphan_expires_ms or None, _alone_limit_ms(row, around)]
    return min((limit for limit in limits if limit is not None and limit > now_ms), default=None)


def minds_being_alone(row: Row) -> bool:
    policy = row.assignment.spec
    return policy.HasField("disconnect") and policy.disconnect.stop_on_node_after_ms != NEVER


def _alone_limit_ms(row: Row, around: Circumstances) -> int | None:
    if around.alone_since_ms is None or not minds_being_alone(row):
        return None
    return around.alone_since_ms + row.assignment.spec.disconnect.stop_on_node_after_ms
