"""Constraints and affinities against one attribute value: what each operator means.

A predicate is made once per constraint and asked once per distinct value of the attribute, not once per node
(scheduler.table). A value of None is a node that does not have the attribute: it satisfies only `!=`, `not_in` and
`not_exists`. What cannot be understood (a broken regular expression, a broken version) matches nothing: a workload
that waits and says why is better than one in the wrong place.

`<` and its kin compare as numbers where both sides are numbers, as versions where both begin with digits
("6.1.0-13" < "6.10"), else as text. `version` takes requirements such as ">= 20.10, < 25" or "~> 1.2".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import re2

from scheduler.types import Affinity, Constraint

Predicate = Callable[[str | None], bool]
Version = tuple[tuple[int, ...], int, int]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?")
_VERSION = re.compile(r"[vV]?(\d{1,18}(?:\.\d{1,18}){0,15})(.*)", re.DOTALL)
_PRERELEASE = re.compile(r"[-~.]?(?:alpha|beta|rc|pre|dev|a|b)[-.]?(\d{0,9})(?![a-z])", re.IGNORECASE)
_REQUIREMENT = re.compile(r"\s*(~>|>=|<=|!=|=|>|<)?\s*(\S+)\s*")


def predicate(wish: Constraint | Affinity) -> Predicate:
    """What `wish` demands of the attribute's value."""
    text, many = _text(wish.value), _many(wish.value)
    match wish.operator:
        case "exists":
            return lambda value: value is not None
        case "not_exists":
            return lambda value: value is None
        case "=":
            return lambda value: value == text
        case "!=":
            return lambda value: value != text
        case "in":
            return lambda value: value is not None and value in many
        case "not_in":
            return lambda value: value is None or value not in many
        case "set_contains":
            return lambda value: value is not None and many <= _many(value)
        case "regexp":
            return _regexp(text)
        case "version":
            return _version(text)
        case "<" | ">" | "<=" | ">=":
            compare = _COMPARE[wish.operator]
            return lambda value: value is not None and compare(*_comparable(value, text))


def wanted(wish: Constraint | Affinity) -> str:
    """The wish as users wrote it, without the attribute: "= 'ssd'"."""
    if wish.operator in ("exists", "not_exists"):
        return wish.operator
    if isinstance(wish.value, str):
        return f"{wish.operator} '{wish.value}'"
    return f"{wish.operator} " + ", ".join(f"'{value}'" for value in wish.value)


def parse_version(text: str) -> Version | None:
    """Numbers without trailing zeros, then whether it is final, then the number of its pre-release.

    Distribution suffixes ("6.1.0-13-amd64", "20.10.24+dfsg1") are no pre-releases, and are ignored.
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    early = _PRERELEASE.match(found[2])
    return (tuple(numbers), 0, int(early[1] or 0)) if early else (tuple(numbers), 1, 0)


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)


def _many(value: str | Sequence[str]) -> frozenset[str]:
    parts = value.split(",") if isinstance(value, str) else value
    return frozenset(part.strip() for part in parts)


def _comparable(value: str, text: str) -> tuple[Any, Any]:
    if _NUMBER.fullmatch(value) and _NUMBER.fullmatch(text):
        return Fraction(value), Fraction(text)
    one, other = parse_version(value), parse_version(text)
    if one is not None and other is not None:
        return one, other
    return value, text


def _regexp(pattern: str) -> Predicate:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        return lambda value: False
    return lambda value: value is not None and compiled.search(value) is not None


def _version(requirement: str) -> Predicate:
    tests: list[Callable[[Version], bool]] = []
    for part in requirement.split(","):
        found = _REQUIREMENT.fullmatch(part)
        bound = parse_version(found[2]) if found else None
        if found is None or bound is None:
            return lambda value: False
        tests += _bounds(found[1] or "=", bound, found[2])

    def holds(value: str | None) -> bool:
        version = parse_version(value) if value is not None else None
        return version is not None and all(test(version) for test in tests)

    return holds


def _bounds(symbol: str, bound: Version, text: str) -> list[Callable[[Version], bool]]:
    if symbol != "~>":
        compare = _COMPARE[symbol]
        return [lambda version: compare(version, bound)]
    given = [int(part) for part in _VERSION.fullmatch(text)[1].split(".")]  # type: ignore[index]
    kept = given[:-1] or given
    above: Version = ((*kept[:-1], kept[-1] + 1), -1, 0)  # below any pre-release of the next one, too
    return [lambda version: bound <= version < above]
