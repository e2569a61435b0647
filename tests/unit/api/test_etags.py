"""If-Match and If-None-Match."""

from __future__ import annotations

import re

import pytest

from controller.api.etags import PATTERN, Precondition, parse
from controller.api.problems import Refused


@pytest.mark.parametrize(
    ("header", "revision", "matches"),
    [
        ('"42"', 42, True),
        ("42", 42, True),
        ('"42"', 43, False),
        ('"41", "42"', 42, True),
        ('"41",42', 42, True),
        ('W/"42"', 42, False),
        ("*", 42, True),
        ("*", None, False),
        ('"42"', None, False),
        ('"of something else"', 42, False),
    ],
)
def test_which_revisions_a_header_names(header: str, revision: int | None, matches: bool) -> None:
    condition = parse(header)
    assert condition is not None
    assert condition.matches(revision) is matches


@pytest.mark.parametrize("header", ['"42', "x", '"a" "b"', '"1",', ""])
def test_what_is_no_entity_tag_is_no_header(header: str) -> None:
    assert not re.fullmatch(PATTERN, header)


def test_a_failed_precondition_says_the_current_revision() -> None:
    with pytest.raises(Refused, match="has revision 7 now") as refused:
        Precondition(if_match=parse('"6"')).check("Job 'a'", 7)
    assert refused.value.headers["ETag"] == '"7"'


def test_if_none_match_of_everything_means_only_where_nothing_is() -> None:
    only_new = Precondition(if_none_match=parse("*"))
    only_new.check("Job 'a'", None)
    with pytest.raises(Refused, match="revision 7"):
        only_new.check("Job 'a'", 7)
