"""How long to wait before trying again."""

from __future__ import annotations

import random


def delay_ms(failures: int, *, base_ms: int, cap_ms: int, exponential: bool = True) -> int:
    """The wait before try number `failures` + 1: none at first, then base, 2 base, 4 base … up to the cap."""
    if failures <= 0:
        return 0
    if not exponential:
        return min(base_ms, cap_ms)
    return min(base_ms << min(failures - 1, 40), cap_ms)


class Jittered:
    """Full-jitter exponential backoff for reconnects (after "Exponential Backoff and Jitter", AWS, 2015)."""

    def __init__(self, rng: random.Random, *, base_s: float = 0.1, cap_s: float = 5.0) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_s(self) -> float:
        """At least a tenth of the ceiling, so that a herd spreads out and nobody spins."""
        ceiling = min(self._cap_s, self._base_s * float(1 << min(self._failures, 16)))
        self._failures += 1
        return ceiling * (0.1 + 0.9 * self._rng.random())
