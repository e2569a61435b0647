"""Values in the words and numbers that people read."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from difflib import get_close_matches

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def plain(text: str) -> str:
    """One line, and nothing in it that a terminal would obey: it may come from a workload."""
    return _CONTROL.sub(" ", text).strip()


def age(since_ms: int, now: int) -> str:
    """How long ago, in one unit: 45s, 3m, 5h, 12d."""
    if not since_ms:
        return ""
    seconds = max(now - since_ms, 0) // 1000
    for unit, length, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // length}{unit}"
    return f"{seconds // 86_400}d"


def clock(at_ms: int) -> str:
    """The time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def cores(millis: int) -> str:
    return f"{millis / 1000:.2f}".rstrip("0").rstrip(".")


def size(count: int) -> str:
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + unit
    return str(count)


def pairs(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(values.items()))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds(duration: str) -> float:
    """From "30s", "5m", "1h30m", or a number of seconds. Raises ValueError."""
    parts = _DURATION.findall(duration)
    if parts and "".join(number + unit for number, unit in parts) == duration:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        found = float(duration)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise ValueError(f"{duration!r} is not a duration, like 30s, 5m or 1h")
    return found


def guess(word: str, known: Collection[str], otherwise: str = "") -> str:
    near = get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise or f"known are: {', '.join(known)}"
