"""What each node has to say to one more slot of a request: its score in parts, or everything that speaks against it."""

from __future__ import annotations

import numpy as np

from scheduler.checks import feasible, why_not
from scheduler.score import Domains, affinity, fits, siblings
from scheduler.snapshot import Snapshot
from scheduler.table import Ints
from scheduler.trial import Trial
from scheduler.types import NodeVerdict, Request


def explain(snapshot: Snapshot, request: Request, seed: int) -> list[NodeVerdict]:
    """One verdict per node in the order in which place() would choose; then those that cannot, by name."""
    trial = Trial(snapshot, seed)
    if not len(trial.known):
        return []
    mask = feasible(trial, request)
    parts = _parts(trial, request)
    total = sum(parts.values(), np.zeros(len(mask), dtype=np.int64))
    avoided = {trial.table.rows.get(node) for nodes in request.avoid.values() for node in nodes}
    rows = sorted(
        np.flatnonzero(trial.known).tolist(),
        key=lambda row: (
            (0, row in avoided, -int(total[row]), -int(trial.rank[row]), "")
            if mask[row]
            else (1, False, 0, 0, trial.table.names[row])
        ),
    )
    return [_verdict(trial, request, row, bool(mask[row]), parts, row in avoided) for row in rows]


def _parts(trial: Trial, request: Request) -> dict[str, Ints]:
    parts: dict[str, Ints] = {request.strategy: fits(trial, request)}
    if request.affinity:
        parts["affinity"] = affinity(trial, request)
    if any(request.members.values()):
        parts["siblings"] = siblings(trial, request)
    for spread in request.spread:
        parts[f"spread over {spread.attribute}"] = Domains(trial, request, spread).bonuses()
    return parts


def _verdict(
    trial: Trial, request: Request, row: int, fits_here: bool, parts: dict[str, Ints], avoided: bool
) -> NodeVerdict:
    node, name = trial.table.ids[row], trial.table.names[row]
    if not fits_here:
        return NodeVerdict(node, name, False, 0, why_not(trial, request, row))
    score = sum(int(part[row]) for part in parts.values())
    words = ", ".join(f"{label} {int(part[row])}" for label, part in parts.items())
    return NodeVerdict(node, name, True, score, words + (", failed here before: last choice" if avoided else ""))
