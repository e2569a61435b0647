"""How good a feasible node is, as integers: the sum of a few parts, each of which can be told to a person.

- fit: 0..1000 by the strategy. best_fit fills the fullest node first, spread the emptiest, least_fragmentation keeps
  what is left of cpu and memory in proportion, so that the rest is still of use.
- affinity: the weights that match, times 20: a weight of 50 outweighs the difference between an empty and a full node.
- siblings: -200 for each allocation of the same group on the node. So the groups of different jobs are packed, but
  one group does not pile up on one of several equal nodes (Nomad's job anti-affinity has the same purpose).
- spread: -1000 for each one in the same domain, weighed by its target share: by Webster's method of apportionment
  every prefix of the slots is in proportion. A node without the attribute, or with no share, comes after all others.
- avoid: where this very slot failed before comes last of all.

Integers only, and no BLAS: the same inputs give the same sums everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from scheduler.table import Column, Ints
from scheduler.trial import Trial
from scheduler.types import Request, Spread

AFFINITY = 20
SIBLING = 200
DOMAIN = 1000
OUTSIDE = 1_000_000  # without the attribute, or without a share
AVOID = 1 << 36

IntOrInts = TypeVar("IntOrInts", int, Ints)


def fit(
    strategy: str, cpu: IntOrInts, cpu_capacity: IntOrInts, memory: IntOrInts, memory_capacity: IntOrInts
) -> IntOrInts:
    """0..1000 for what would be used of a node, with capacities of at least 1. For one node or for all of them."""
    cpu_share, memory_share = cpu * 1000 // cpu_capacity, memory * 1000 // memory_capacity
    if strategy == "best_fit":
        return (cpu_share + memory_share) // 2
    if strategy == "spread":
        return 1000 - (cpu_share + memory_share) // 2
    return 1000 - abs(cpu_share - memory_share)  # type: ignore[return-value]  # the stubs see floats


def fits(trial: Trial, request: Request) -> Ints:
    cpu, memory, _ = trial.used
    cpu_capacity, memory_capacity, _ = trial.capacity
    return fit(
        request.strategy,
        cpu + request.cpu_millis,
        np.maximum(cpu_capacity, 1),
        memory + request.memory_bytes,
        np.maximum(memory_capacity, 1),
    )


def fit_of(trial: Trial, request: Request, row: int, more: int = 0) -> int:
    """As `fits`, for one row that has taken `more` of this request since."""
    return fit(
        request.strategy,
        trial.used[0].item(row) + (1 + more) * request.cpu_millis,
        max(trial.capacity[0].item(row), 1),
        trial.used[1].item(row) + (1 + more) * request.memory_bytes,
        max(trial.capacity[1].item(row), 1),
    )


def affinity(trial: Trial, request: Request) -> Ints:
    total = np.zeros(len(trial.known), dtype=np.int64)
    for wish in request.affinity:
        total += trial.table.matching(wish) * np.int64(wish.weight * AFFINITY)
    return total


def siblings(trial: Trial, request: Request) -> Ints:
    total = np.zeros(len(trial.known), dtype=np.int64)
    for row, count in trial.members(request).items():
        total[row] = -SIBLING * count
    return total


class Domains:
    """The values of a spread's attribute, and how many of the group are in each."""

    def __init__(self, trial: Trial, request: Request, spread: Spread) -> None:
        self.attribute = spread.attribute
        self.column: Column = trial.table.column(spread.attribute)
        self.counts = [0] * len(self.column.values)
        self._shares = _shares(self.column, spread.targets, trial)
        for row, count in trial.members(request).items():
            self.counts[self.column.codes[row]] += count
        self._rows: dict[int, Ints] = {}

    def bonus(self, code: int) -> int:
        """-1000 for each one there; with k targets, as many times the even share 1/k by its own share."""
        share = self._shares[code]
        if not share:
            return -OUTSIDE - DOMAIN * self.counts[code]
        return -(2 * self.counts[code] + 1) * DOMAIN * 1000 // (2 * share)

    def bonuses(self) -> Ints:
        table = np.array([self.bonus(code) for code in range(len(self.counts))], dtype=np.int64)
        return table[self.column.codes]

    def take(self, row: int) -> tuple[Ints, int]:
        """One more in the domain of a row: returns the rows of that domain, and by how much their score changes."""
        code = int(self.column.codes[row])
        before = self.bonus(code)
        self.counts[code] += 1
        rows = self._rows.get(code)
        if rows is None:
            rows = self._rows[code] = np.flatnonzero(self.column.codes == code)
        return rows, self.bonus(code) - before

    def words(self, row: int) -> str:
        code = self.column.codes[row]
        value = self.column.values[code]
        if self.attribute == "node.id":
            where = "on it"
        elif value is None:
            where = f"where {self.attribute} is not set"
        else:
            where = f"in {self.attribute} {value}"
        return f"{self.counts[code]} of the group {where}"


def _shares(column: Column, targets: Mapping[str, int], trial: Trial) -> list[int]:
    """Per code, the share in thousandths of an even one; what targets leave over is shared by the other values."""
    present = np.bincount(column.codes[trial.known], minlength=len(column.values)).tolist()
    others = sum(1 for code, value in enumerate(column.values) if code and present[code] and value not in targets)
    rest = max(100 - sum(targets.values()), 0)
    domains = len(targets) + (others if rest else 0)

    def share(value: str | None) -> int:
        if value is None:
            return 0
        if not targets:
            return 1000
        if value in targets:
            return targets[value] * domains * 10
        return rest * domains * 10 // max(others, 1)

    return [share(value) for value in column.values]
