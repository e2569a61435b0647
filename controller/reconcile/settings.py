"""Times and bounds of the reconciler. Seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    window_s: float = 0.05  # changes of one job within it count once
    share: float = 0.1  # of the time that one job's turns may take: a huge job is looked at less often
    batch: int = 64  # jobs in one call of the scheduler
    placements: int = 1000  # of one job in one turn
    transactions: int = 8  # in flight
    capacity_s: float = 0.1  # after capacity appeared, waiting jobs are tried again
    retry_waiting_s: float = 30.0  # and if nothing was heard
    state_s: float = 0.2  # between two writes of a job's state
    state_late_s: float = 1.0  # a job that never rests gets its state written at least so often
    keep_finished_s: float = 3600.0
    keep_events: int = 1000
    keep_versions: int = 10
    flush_events_s: float = 1.0
    collect_s: float = 10.0
    collect_bound: int = 2000  # keys removed in one turn of the collector
    scan_s: float = 3600.0  # between two looks at everything for leftovers
