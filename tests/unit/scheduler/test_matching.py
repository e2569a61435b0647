from __future__ import annotations

import pytest

from scheduler.matching import parse_version, predicate, wanted
from scheduler.types import Constraint, Operator


@pytest.mark.parametrize(
    ("operator", "wish", "yes", "no"),
    [
        ("=", "ssd", ["ssd"], ["hdd", "SSD", "", None]),
        ("!=", "ssd", ["hdd", None], ["ssd"]),
        ("in", ("a", "b"), ["a", "b"], ["c", "", None]),
        ("in", "a, b", ["a", "b"], ["c", "a, b"]),
        ("not_in", ("a", "b"), ["c", None], ["a"]),
        ("exists", "", ["", "x"], [None]),
        ("not_exists", "", [None], ["", "x"]),
        ("<", "10", ["9", "9.99", "-3"], ["10", "11", None]),
        ("<=", "10", ["10", "10.0"], ["10.1"]),
        (">", "6.9.0", ["6.10.1-13-amd64"], ["6.8.12", "6.9.0", None]),
        (">=", "b", ["b", "c"], ["a"]),
        ("regexp", "^ssd[0-9]+$", ["ssd1"], ["my-ssd1", "ssd", None]),
        ("regexp", "(broken", [], ["(broken", "", None]),
        ("regexp", "(a+)+$", ["a" * 40], ["a" * 40 + "b"]),
        ("version", ">= 20.10, < 25", ["20.10", "20.10.24+dfsg1", "24.99"], ["20.9.9", "25.0", "25", "none", None]),
        ("version", "20.10.0", ["20.10"], ["20.10.1"]),
        ("version", ">= 1.0.0", ["1.0"], ["1.0.0-rc1", "1.0.0-beta.2"]),
        ("version", "~> 1.2", ["1.2", "1.9.9"], ["1.1", "2.0", "2.0-rc1"]),
        ("version", "~> 1.2.3", ["1.2.3", "1.2.99"], ["1.3", "1.2.2"]),
        ("version", "latest", [], ["latest", "1.0", None]),
        ("version", "> 1.0-rc1", ["1.0-rc2", "1.0"], ["1.0-rc1"]),
        ("set_contains", ("avx", "sse"), ["sse,avx,mmx", "avx, sse"], ["avx", "", None]),
        ("set_contains", "avx", ["avx"], ["avx2"]),
    ],
)
def test_an_operator_holds_for_some_values_and_not_for_others(
    operator: Operator, wish: str | tuple[str, ...], yes: list[str | None], no: list[str | None]
) -> None:
    holds = predicate(Constraint("attribute", operator, wish))

    assert [value for value in yes if not holds(value)] == []
    assert [value for value in no if holds(value)] == []


def test_versions_order_by_number_then_prereleases_before_finals() -> None:
    ascending = ["1.0-alpha1", "1.0-rc1", "1.0-rc2", "v1.0", "1.0.1", "1.2", "1.10", "2"]

    parsed = [parse_version(text) for text in ascending]

    assert None not in parsed
    assert parsed == sorted(parsed, key=lambda version: version or ((), 0, 0))
    assert parse_version("1.0") == parse_version("1.0.0-13-amd64")


def test_a_wish_is_told_as_it_was_written() -> None:
    assert wanted(Constraint("label.disk", "=", "ssd")) == "= 'ssd'"
    assert wanted(Constraint("label.disk", "in", ("ssd", "nvme"))) == "in 'ssd', 'nvme'"
    assert wanted(Constraint("label.disk", "exists")) == "exists"
