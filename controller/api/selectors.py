"""Label selectors: `a=b,c!=d,e,!f`. All clauses must hold; `c!=d` holds as well where there is no `c`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.api.problems import invalid

KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
VALUE = r"[^,=!]*"
_CLAUSE = re.compile(rf"\s*(?P<absent>!)?\s*(?P<key>{KEY})\s*(?:(?P<operator>!=|==?)\s*(?P<value>{VALUE}?))?\s*")


@dataclass(frozen=True, slots=True)
class Clause:
    key: str
    operator: Literal["=", "!=", "exists", "absent"]
    value: str = ""

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "=":
                return labels.get(self.key) == self.value
            case "!=":
                return labels.get(self.key) != self.value
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    clauses: tuple[Clause, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.clauses)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(clause.holds(labels) for clause in self.clauses)


def parse(text: str | None) -> Selector:
    """Raises Refused (`invalid_request`) that names the clause."""
    if text is None or not text.strip():
        return Selector()
    return Selector(tuple(_clause(part) for part in text.split(",")))


def _clause(text: str) -> Clause:
    found = _CLAUSE.fullmatch(text)
    if found is None or (found["absent"] and found["operator"]):
        raise invalid("labels", f"{text!r} is not a clause", "write key=value, key!=value, key or !key")
    key, operator = found["key"], found["operator"]
    if operator is None:
        return Clause(key, "absent" if found["absent"] else "exists")
    return Clause(key, "!=" if operator == "!=" else "=", found["value"])
