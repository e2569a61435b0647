"""What a set of assignments means for what the journal knows. Pure.

Absence is not stop. An allocation that a complete set does not mention becomes an orphan: its grace begins when it
was first missed, is written down, and so goes on over restarts of the agent and over sessions. One that is mentioned
again is an orphan no more. What has ended already and is not mentioned has been taken note of, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.journal import Row
from agent.state import Stage
from moorage.wire.session_pb2 import Assignment


@dataclass(slots=True)
class Difference:
    """`changed` holds the assignment that the row is to have now."""

    new: list[Assignment] = field(default_factory=list)
    changed: list[tuple[Row, Assignment]] = field(default_factory=list)
    readopted: list[Row] = field(default_factory=list)
    orphaned: list[Row] = field(default_factory=list)
    forgotten: list[Row] = field(default_factory=list)


def of_set(known: Mapping[str, Row], assignments: Iterable[Assignment]) -> Difference:
    """What a complete set says."""
    difference = Difference()
    mentioned = set()
    for assignment in assignments:
        mentioned.add(assignment.alloc)
        _mention(difference, known.get(assignment.alloc), assignment)
    for alloc, row in known.items():
        if alloc not in mentioned:
            _miss(difference, row)
    return difference


def of_delta(known: Mapping[str, Row], changed: Iterable[Assignment], forgotten: Iterable[str]) -> Difference:
    """What a change says; what it does not mention is as it was."""
    difference = Difference()
    for assignment in changed:
        _mention(difference, known.get(assignment.alloc), assignment)
    for alloc in forgotten:
        if (row := known.get(alloc)) is not None:
            _miss(difference, row)
    return difference


def _mention(difference: Difference, row: Row | None, assignment: Assignment) -> None:
    if row is None:
        difference.new.append(assignment)
        return
    if row.orphan_expires_ms:
        difference.readopted.append(row)
    merged = merge(row.assignment, assignment)
    if merged != row.assignment:
        difference.changed.append((row, merged))


def _miss(difference: Difference, row: Row) -> None:
    if row.state.stage >= Stage.ENDED:
        difference.forgotten.append(row)
    elif not row.orphan_expires_ms:
        difference.orphaned.append(row)


def merge(known: Assignment, told: Assignment) -> Assignment:
    """A stop is for good. Where no spec comes along (a stop, or one that cannot be read), the known one goes on."""
    merged = Assignment()
    merged.CopyFrom(known if known.HasField("spec") and not told.HasField("spec") else told)
    if told.stop and not known.stop:
        merged.stop, merged.stop_reason = True, told.stop_reason
    elif known.stop:
        merged.stop, merged.stop_reason = True, known.stop_reason
    return merged
