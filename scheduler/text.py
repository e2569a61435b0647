"""Numbers and counts in the words that people read."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))

Tally = list[tuple[int, str]]

MOST = 6  # different reasons in one sentence


def cpu(millis: int) -> str:
    return f"{millis}m" if millis < 1000 else f"{millis / 1000:.2f}".rstrip("0").rstrip(".") + " cores"


def size(count: int) -> str:
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} B"


def percent(part: int, whole: int) -> int:
    return part * 100 // max(whole, 1)


def tally(reasons: Sequence[tuple[int, str]]) -> str:
    """ "3 nodes: memory short by 120 MiB; 1: cordoned": most nodes first."""
    ordered = sorted(reasons, key=lambda reason: (-reason[0], reason[1]))
    parts = [f"{count}: {text}" for count, text in ordered[:MOST]]
    if len(ordered) > MOST:
        parts.append(f"{sum(count for count, _ in ordered[MOST:])}: other reasons")
    first, _, rest = parts[0].partition(":")
    parts[0] = f"{first} node{'' if first == '1' else 's'}:{rest}"
    return "; ".join(parts)
