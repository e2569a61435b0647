"""Timings that both sides of a session live by. All can be set: MOOR_HEARTBEAT, MOOR_LOST_AFTER … (seconds)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. The lab sets short ones."""

    heartbeat: float = 3.0
    lost_after: float = 15.0
    lease: float = 10.0
    renew: float = 3.0
    orphan_grace: float = 600.0
    keep_finished: float = 3600.0  # how long ended allocations and events stay to be looked at
    compact_every: float = 300.0
    compare_every: float = 300.0  # the cache's slow comparison with the store

    def __post_init__(self) -> None:
        if not self.heartbeat < self.lost_after:
            raise ValueError(f"lost_after ({self.lost_after} s) must be longer than heartbeat ({self.heartbeat} s)")
        if not self.renew < self.lease:
            raise ValueError(f"lease ({self.lease} s) must be longer than renew ({self.renew} s)")


def timings(environment: Mapping[str, str] | None = None) -> Timings:
    """From MOOR_* variables. Raises ValueError that names the variable."""
    environment = os.environ if environment is None else environment
    given: dict[str, float] = {}
    for field in fields(Timings):
        variable = f"MOOR_{field.name.upper()}"
        if (text := environment.get(variable)) is not None:
            given[field.name] = _seconds(variable, text)
    return Timings(**given)


def _seconds(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{variable} must be a number of seconds, not {text!r}") from None
    if not value > 0:
        raise ValueError(f"{variable} must be above 0, not {text}")
    return value
