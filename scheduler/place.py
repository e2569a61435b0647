"""Placement: for each slot the best of the nodes that can take it, or why there is none.

place(snapshot, requests, seed) is a pure function. A request's slots are alike, so all nodes are checked and scored
once per request, as whole columns; after each slot only what it changed is adjusted: its own node, and the nodes in
its domain where the group is spread. Score and tie-break share one integer per node, so that choosing is one argmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler import text
from scheduler.checks import feasible, still_feasible, why_none
from scheduler.score import AVOID, SIBLING, Domains, affinity, fit_of, fits, siblings
from scheduler.snapshot import Snapshot
from scheduler.trial import Trial
from scheduler.types import Placement, Plan, Rejection, Request

RANK_BITS = 20  # the tie-break below the score: a million nodes
REFUSED = -(1 << 62)
_STRATEGIES = {"best_fit": "best fit", "spread": "emptiest", "least_fragmentation": "least fragmented"}


def place(snapshot: Snapshot, requests: Sequence[Request], seed: int) -> list[Plan]:
    """One Plan per request, in order; later requests see what earlier ones took. The snapshot is not changed.

    Within a request, slots are filled in the order of `indexes`.
    """
    trial = Trial(snapshot, seed)
    return [_plan(trial, request) for request in requests]


def _plan(trial: Trial, request: Request) -> Plan:
    board = Board(trial, request)
    placements: list[Placement] = []
    for position, index in enumerate(request.indexes):
        row = board.best(request.avoid.get(index, ()))
        if row is None:
            # Slots are alike: where one finds nothing, those after it do not either.
            reason = why_none(trial, request)
            return Plan(request, placements, [Rejection(left, reason) for left in request.indexes[position:]])
        placements.append(board.take(row, index))
    return Plan(request, placements, [])


class Board:
    """The standing of every node for one request."""

    def __init__(self, trial: Trial, request: Request) -> None:
        self._trial = trial
        self._request = request
        mask = feasible(trial, request)
        self._feasible = int(np.count_nonzero(mask))
        self._domains = [Domains(trial, request, spread) for spread in request.spread] if self._feasible else []
        if self._feasible:
            score = fits(trial, request) + affinity(trial, request) + siblings(trial, request)
            for domains in self._domains:
                score += domains.bonuses()
            self._key = np.where(mask, (score << RANK_BITS) + trial.rank, REFUSED)

    def best(self, avoid: Sequence[str] = ()) -> int | None:
        if not self._feasible:
            return None
        key = self._key
        rows = [self._trial.table.rows[node] for node in avoid if node in self._trial.table.rows]
        if rows:
            key = key.copy()
            key[rows] = np.maximum(key[rows] - (AVOID << RANK_BITS), REFUSED)
        return int(key.argmax())

    def take(self, row: int, index: int) -> Placement:
        trial, request = self._trial, self._request
        why = self._why(row)
        ports = trial.take(row, request, index)
        if not still_feasible(trial, request, row):
            self._key[row] = REFUSED
            self._feasible -= 1
        else:
            change = fit_of(trial, request, row) - fit_of(trial, request, row, more=-1) - SIBLING
            self._key[row] += change << RANK_BITS
        for domains in self._domains:
            rows, change = domains.take(row)
            self._key[rows] += change << RANK_BITS
        return Placement(index, trial.table.ids[row], ports, why)

    def _why(self, row: int) -> str:
        trial, request = self._trial, self._request
        cpu = text.percent(trial.used[0].item(row) + request.cpu_millis, trial.capacity[0].item(row))
        memory = text.percent(trial.used[1].item(row) + request.memory_bytes, trial.capacity[1].item(row))
        nodes = f"{self._feasible} node{'' if self._feasible == 1 else 's'}"
        words = [f"{_STRATEGIES[request.strategy]} of {nodes}: {cpu} % of cpu, {memory} % of memory used after"]
        words += [domains.words(row) for domains in self._domains]
        return "; ".join(words)
