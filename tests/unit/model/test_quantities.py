from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.model import quantities as q


@pytest.mark.parametrize(
    ("written", "millis", "printed"),
    [("250m", 250, "250m"), (1.5, 1500, "1500m"), ("1.5", 1500, "1500m"), (2, 2000, "2"), ("2000m", 2000, "2")],
)
def test_cpu_is_cores_or_millicores(written: Any, millis: int, printed: str) -> None:
    assert q.parse_cpu(written) == millis
    assert q.format_cpu(millis) == printed


@pytest.mark.parametrize(
    ("written", "count", "printed"),
    [
        ("64Mi", 64 << 20, "64Mi"),
        ("4Gi", 4 << 30, "4Gi"),
        ("500M", 500_000_000, "500M"),
        (128, 128, "128"),
        ("1.5Gi", 3 << 29, "1536Mi"),
        ("1024Ki", 1 << 20, "1Mi"),
        (0, 0, "0"),
    ],
)
def test_bytes_have_binary_or_decimal_units_or_none(written: Any, count: int, printed: str) -> None:
    assert q.parse_bytes(written) == count
    assert q.format_bytes(count) == printed


@pytest.mark.parametrize(
    ("written", "milliseconds", "printed"),
    [
        ("500ms", 500, "500ms"),
        ("30s", 30_000, "30s"),
        ("90s", 90_000, "90s"),
        ("60m", 3_600_000, "1h"),
        ("0s", 0, "0s"),
    ],
)
def test_durations_have_a_unit(written: str, milliseconds: int, printed: str) -> None:
    assert q.parse_duration(written) == milliseconds
    assert q.format_duration(milliseconds) == printed


@pytest.mark.parametrize(
    ("parse", "written", "says", "suggests"),
    [
        (q.parse_cpu, "250Mi", "250m", "did you mean 250m?"),
        (q.parse_cpu, "0.0001", "finer than a millicore", ""),
        (q.parse_cpu, "fast", "is not a quantity", ""),
        (q.parse_cpu, "-1", "negative", ""),
        (q.parse_cpu, True, "is not a quantity", ""),
        (q.parse_cpu, float("nan"), "is not a quantity", ""),
        (q.parse_cpu, "100000", "too much", ""),
        (q.parse_bytes, "64MB", "units Ki, Mi, Gi", "did you mean 64M or 64Mi?"),
        (q.parse_bytes, "64m", "units Ki, Mi, Gi", "did you mean 64M or 64Mi?"),
        (q.parse_bytes, "4kib", "units Ki, Mi, Gi", "did you mean 4Ki?"),
        (q.parse_bytes, "0.5", "not a whole number of bytes", ""),
        (q.parse_bytes, "9999999Ti", "too much", ""),
        (q.parse_bytes, [64], "is not a quantity", ""),
        (q.parse_duration, 30, "has no unit", "did you mean 30s?"),
        (q.parse_duration, "5 minutes", "has the unit 'minutes'", "did you mean 5m?"),
        (q.parse_duration, "2d", "has the unit 'd'", "did you mean 48h?"),
        (q.parse_duration, "10sec", "has the unit 'sec'", "did you mean 10s?"),
        (q.parse_duration, "0.1ms", "finer than a millisecond", ""),
        (q.parse_duration, "9" * 30 + "h", "is not a quantity", ""),
        (q.parse_duration, "", "is not a quantity", ""),
    ],
)
def test_a_wrong_quantity_says_what_is_accepted(parse: Any, written: Any, says: str, suggests: str) -> None:
    with pytest.raises(q.QuantityError) as caught:
        parse(written)
    assert says in str(caught.value)
    assert caught.value.suggestion == suggests


@given(st.integers(0, q.MAX_MILLICORES))
def test_printed_cpu_reads_back(millis: int) -> None:
    assert q.parse_cpu(q.format_cpu(millis)) == millis


@given(st.integers(0, q.MAX_BYTES))
def test_printed_bytes_read_back(count: int) -> None:
    assert q.parse_bytes(q.format_bytes(count)) == count


@given(st.integers(0, q.MAX_DURATION_MS))
def test_printed_durations_read_back(milliseconds: int) -> None:
    assert q.parse_duration(q.format_duration(milliseconds)) == milliseconds


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none()))
def test_anything_else_is_refused_and_never_crashes(value: Any) -> None:
    for parse in (q.parse_cpu, q.parse_bytes, q.parse_duration):
        try:
            assert parse(value) >= 0
        except q.QuantityError as error:
            assert str(error)
