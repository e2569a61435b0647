"""Amounts as people write them, and the integers that the machinery computes with.

cpu in millicores, bytes in bytes, durations in milliseconds. Reading and printing are inverse: what is printed reads
back as the same number, in the largest unit that divides it exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

NEVER = -1
"""A duration without end."""

UNLIMITED = -1
"""A count without end."""

MAX_MILLICORES = 4_096_000
MAX_BYTES = 1 << 60
MAX_DURATION_MS = 10 * 365 * 86_400_000

BYTE_UNITS = {
    "Ti": 1 << 40,
    "T": 10**12,
    "Gi": 1 << 30,
    "G": 10**9,
    "Mi": 1 << 20,
    "M": 10**6,
    "Ki": 1 << 10,
    "k": 10**3,
    "": 1,
}
DURATION_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

CPU_PATTERN = r"^[0-9]+(\.[0-9]{1,3})?$|^[0-9]+m$"
BYTES_PATTERN = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"

_NUMBER = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([^\s0-9.]*)", re.ASCII)
_CPU_HELP = "a cpu quantity is cores, like 1.5, or millicores, like 250m"
_BYTES_HELP = "a size is a number of bytes or has one of the units Ki, Mi, Gi, Ti, k, M, G, T, like 64Mi"
_DURATION_HELP = "a duration has one of the units ms, s, m, h, like 500ms, 30s or 5m"


class QuantityError(ValueError):
    """`suggestion` is what was probably meant, or empty."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def parse_cpu(value: Any) -> int:
    """`250m`, `1.5`, `2` -> millicores."""
    number, unit = _split(value, _CPU_HELP)
    if unit not in ("", "m"):
        guess = f"did you mean {number}m?" if unit.lower() in ("mi", "mb", "millicores", "mcpu") else ""
        raise QuantityError(f"{_shown(value)} has the unit {unit!r}: {_CPU_HELP}", guess)
    millis = number if unit == "m" else number * 1000
    return _whole(value, millis, MAX_MILLICORES, "finer than a millicore", "4096 cores")


def format_cpu(millis: int) -> str:
    return f"{millis // 1000}" if millis % 1000 == 0 else f"{millis}m"


def parse_bytes(value: Any) -> int:
    """`64Mi`, `500M`, `128` -> bytes."""
    number, unit = _split(value, _BYTES_HELP)
    if unit not in BYTE_UNITS:
        raise QuantityError(f"{_shown(value)} has the unit {unit!r}: {_BYTES_HELP}", _byte_guess(number, unit))
    return _whole(value, number * BYTE_UNITS[unit], MAX_BYTES, "not a whole number of bytes", "1024 Ti")


def format_bytes(count: int) -> str:
    return _largest_unit(count, BYTE_UNITS)


def parse_duration(value: Any) -> int:
    """`500ms`, `30s`, `5m`, `1h` -> milliseconds."""
    number, unit = _split(value, _DURATION_HELP)
    if unit not in DURATION_UNITS:
        problem = "has no unit" if unit == "" else f"has the unit {unit!r}"
        raise QuantityError(f"{_shown(value)} {problem}: {_DURATION_HELP}", _duration_guess(number, unit))
    return _whole(value, number * DURATION_UNITS[unit], MAX_DURATION_MS, "finer than a millisecond", "ten years")


def format_duration(milliseconds: int) -> str:
    """`never` for NEVER."""
    if milliseconds == NEVER:
        return "never"
    if milliseconds == 0:
        return "0s"
    return _largest_unit(milliseconds, DURATION_UNITS)


def _split(value: Any, help_text: str) -> tuple[Decimal, str]:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise QuantityError(f"{_shown(value)} is not a quantity: {help_text}")
    text = value.strip() if isinstance(value, str) else str(value)
    if text.startswith("-"):
        raise QuantityError(f"{_shown(value)} is negative: {help_text}")
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise QuantityError(f"{_shown(value)} is not a quantity: {help_text}")
    try:
        return Decimal(match[1]), match[2]
    except InvalidOperation:  # pragma: no cover - the pattern admits only decimals
        raise QuantityError(f"{_shown(value)} is not a number") from None


def _whole(value: Any, number: Decimal, most: int, finer: str, most_text: str) -> int:
    if number != number.to_integral_value():
        raise QuantityError(f"{_shown(value)} is {finer}")
    if number > most:
        raise QuantityError(f"{_shown(value)} is too much: at most {most_text}")
    return int(number)


def _largest_unit(number: int, units: dict[str, int]) -> str:
    if number:
        for unit, size in units.items():
            if number % size == 0:
                return f"{number // size}{unit}"
    return str(number)


def _byte_guess(number: Decimal, unit: str) -> str:
    """`MB`, `mib`, `m`, `KB` …: what the author most likely means."""
    letter = unit[:1].upper()
    if letter not in "KMGT" or not letter:
        return ""
    binary = "i" if "i" in unit.lower() else ""
    prefix = "k" if letter == "K" and not binary else letter
    either = f" or {number}{letter}i" if not binary else ""
    return f"did you mean {number}{prefix}{binary}{either}?"


def _duration_guess(number: Decimal, unit: str) -> str:
    if unit == "":
        return f"did you mean {number}s?"
    words = {"sec": "s", "min": "m", "mins": "m", "hour": "h", "hr": "h", "msec": "ms", "millis": "ms", "minute": "m"}
    lowered = unit.lower()
    if lowered in ("d", "day", "days"):
        return f"did you mean {number * 24}h?"
    known = lowered if lowered in DURATION_UNITS else words.get(lowered.rstrip("s")) or words.get(lowered)
    if known is None and lowered.startswith("second"):
        known = "s"
    return f"did you mean {number}{known}?" if known else ""


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
