"""Bodies: JSON objects, nothing else, whatever is sent."""

from __future__ import annotations

import pytest

from controller.api.body import MAX_DEPTH, parse_object
from controller.api.problems import Refused


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
        (nested(100_000), "nested deeper"),
        (b"[" * 500_000, "nested deeper"),
    ],
)
def test_what_is_no_json_of_ours_is_refused_with_400(body: bytes, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        parse_object(body)
    assert refused.value.code.status == 400


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_object_is_refused_with_422(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse_object(body)
    assert refused.value.code.status == 422


def test_an_object_of_the_greatest_depth_is_read() -> None:
    assert parse_object(nested(MAX_DEPTH - 1)) != {}
    assert parse_object(b'{"a": [1, 2.5, "\xc3\xa4", null, true]}') == {"a": [1, 2.5, "ä", None, True]}
