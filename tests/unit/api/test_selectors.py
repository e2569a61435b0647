"""Label selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api import selectors
from controller.api.problems import Refused

LABELS = {"team": "web", "tier": "front", "empty": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (None, True),
        ("", True),
        ("team=web", True),
        ("team==web", True),
        ("team=db", False),
        ("team!=db", True),
        ("team!=web", False),
        ("absent!=web", True),
        ("absent=web", False),
        ("team", True),
        ("absent", False),
        ("!absent", True),
        ("!team", False),
        ("empty=", True),
        ("team=web,tier=front", True),
        ("team=web,tier=back", False),
        (" team = web , !absent ", True),
        ("example.com/role!=x", True),
    ],
)
def test_all_clauses_must_hold(text: str | None, holds: bool) -> None:
    assert selectors.parse(text).matches(LABELS) is holds


@pytest.mark.parametrize("text", ["=web", "team=web,", "!team=web", "a b=c", "team=a=b", "-x=1"])
def test_a_clause_that_is_none_is_named(text: str) -> None:
    with pytest.raises(Refused) as refused:
        selectors.parse(text)
    assert refused.value.code.name == "invalid_request"
    assert refused.value.errors[0].path == "labels"


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    try:
        selectors.parse(text).matches(LABELS)
    except Refused as refused:
        assert refused.code.status == 422
