"""Which nodes can take a request at all, and what to say about those that cannot.

One Check is one reason for a no: a mask over all rows, and words for the rows it refuses. place() needs only the
masks; the words are made when somebody has to be told. A node is counted under the first check that refuses it, in the
order in which a person would look: is it there for work, is it the right kind, is there room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from scheduler import text
from scheduler.matching import wanted as wish_words
from scheduler.snapshot import AUTO_PORTS
from scheduler.table import Bools, Ints
from scheduler.trial import Trial, wanted
from scheduler.types import Constraint, Request

NO_NODES = "no node has joined yet"
DIMENSIONS = ("cpu", "memory", "disk")
FORMATS: tuple[Callable[[int], str], ...] = (text.cpu, text.size, text.size)
VALUES_NAMED = 3  # so many different values of an attribute are named in one refusal


@dataclass(frozen=True, slots=True)
class Check:
    ok: Bools
    words: Callable[[Ints], text.Tally]  # of rows that are refused: how many for which reason


def checks(trial: Trial, request: Request) -> Iterator[Check]:
    table = trial.table
    yield Check(trial.schedulable, partial(_unschedulable, trial))
    if request.drivers:
        yield Check(table.driving(request.drivers), partial(_undriven, trial, request))
    for constraint in request.constraints:
        yield Check(table.matching(constraint), partial(_unmatched, trial, constraint))
    if request.distinct_hosts:
        yield Check(
            _without(trial, list(trial.members(request))), _all("runs one of this group already (distinct_hosts)")
        )
    for name, port in request.host_ports.items():
        if port:
            yield Check(_without(trial, trial.port_rows(port)), _all(f"port {port} ({name}) is in use"))
    autos = automatic_ports(request)
    if autos:
        words = f"fewer than {autos} ports free between {AUTO_PORTS[0]} and {AUTO_PORTS[-1]}"
        yield Check(trial.auto_used + autos <= len(AUTO_PORTS), _all(words))
    yield Check(_roomy(trial, request), partial(_crowded, trial, request))


def feasible(trial: Trial, request: Request) -> Bools:
    mask = trial.known.copy()
    for check in checks(trial, request):
        mask &= check.ok
    return mask


def still_feasible(trial: Trial, request: Request, row: int) -> bool:
    """Of a row that this request has just taken: whether it can take one more."""
    if request.distinct_hosts or any(request.host_ports.values()):
        return False
    autos = automatic_ports(request)
    if autos and trial.auto_used[row] + autos > len(AUTO_PORTS):
        return False
    return all(
        not amount or used.item(row) + amount <= capacity.item(row)
        for amount, used, capacity in zip(wanted(request), trial.used, trial.capacity, strict=True)
    )


def automatic_ports(request: Request) -> int:
    """How many free ports of the automatic range it needs; those it names itself there are in the way, too."""
    autos = sum(not port for port in request.host_ports.values())
    return autos + sum(port in AUTO_PORTS for port in request.host_ports.values()) if autos else 0


def why_none(trial: Trial, request: Request) -> str:
    """Why no node can take one more: every node counted once."""
    left = trial.known.copy()
    if not left.any():
        return NO_NODES
    reasons: text.Tally = []
    for check in checks(trial, request):
        refused = np.flatnonzero(left & ~check.ok)
        if len(refused):
            reasons += check.words(refused)
            left &= check.ok
    return text.tally(reasons)


def why_not(trial: Trial, request: Request, row: int) -> str:
    """Everything that speaks against one node; empty where it can take one."""
    rows = np.array([row])
    return "; ".join(words for check in checks(trial, request) if not check.ok[row] for _, words in check.words(rows))


def _without(trial: Trial, rows: list[int]) -> Bools:
    ok = np.ones(len(trial.known), dtype=np.bool_)
    ok[rows] = False
    return ok


def _roomy(trial: Trial, request: Request) -> Bools:
    ok = np.ones(len(trial.known), dtype=np.bool_)
    for amount, used, capacity in zip(wanted(request), trial.used, trial.capacity, strict=True):
        if amount:
            ok &= used + amount <= capacity
    return ok


def _all(words: str) -> Callable[[Ints], text.Tally]:
    return lambda rows: [(len(rows), words)]


def _unschedulable(trial: Trial, rows: Ints) -> text.Tally:
    return _counted([trial.table.why_not[row] or "not schedulable" for row in rows.tolist()])


def _undriven(trial: Trial, request: Request, rows: Ints) -> text.Tally:
    wished, have = sorted(set(request.drivers)), trial.table.drivers
    return _counted([f"no {' and '.join(d for d in wished if d not in have[row])} driver" for row in rows.tolist()])


def _unmatched(trial: Trial, constraint: Constraint, rows: Ints) -> text.Tally:
    column = trial.table.column(constraint.attribute)
    codes, counts = np.unique(column.codes[rows], return_counts=True)
    wish = wish_words(constraint)
    if len(codes) > VALUES_NAMED:
        return [(len(rows), f"{constraint.attribute} differs, wanted {wish}")]
    return [
        (count, f"{constraint.attribute} {_is(column.values[code])}, wanted {wish}")
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    ]


def _is(value: str | None) -> str:
    return "is not set" if value is None else f"is '{value}'"


def _crowded(trial: Trial, request: Request, rows: Ints) -> text.Tally:
    """By which of cpu, memory and disk are short; where they differ, the least that is missing is told."""
    amounts = np.array(wanted(request), dtype=np.int64)[:, None]
    capacity = np.stack([line[rows] for line in trial.capacity])
    used = np.stack([line[rows] for line in trial.used])
    short = np.where(amounts > 0, np.maximum(amounts + used - capacity, 0), 0)
    kinds = np.array([1, 2, 4]) @ (short > 0) + np.array([8, 16, 32]) @ (amounts > capacity)
    reasons: text.Tally = []
    for kind in np.unique(kinds).tolist():
        members = kinds == kind
        words = [
            _short(line, kind & (8 << line) != 0, int(amounts[line, 0]), short[line, members], capacity[line, members])
            for line in range(3)
            if kind & (1 << line)
        ]
        reasons.append((int(members.sum()), ", ".join(words)))
    return reasons


def _short(line: int, never: bool, amount: int, short: Ints, capacity: Ints) -> str:
    name, form = DIMENSIONS[line], FORMATS[line]
    if never:
        largest, only = int(capacity.max()), capacity.min() == capacity.max()
        return f"{name} of the whole node is {'' if only else 'at most '}{form(largest)}, wanted {form(amount)}"
    least, alike = int(short.min()), short.min() == short.max()
    return f"{name} short by {'' if alike else 'at least '}{form(least)}"


def _counted(words: list[str]) -> text.Tally:
    return [(words.count(one), one) for one in sorted(set(words))]
