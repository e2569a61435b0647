"""Prometheus metrics of the reconciler."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from moorage.kit.telemetry import LATENCY_BUCKETS

DEPTH = Gauge("moor_reconcile_queue_depth", "Jobs that wait for a turn")
TURNS = Histogram("moor_reconcile_turn_seconds", "One job: reading and deciding", buckets=(0.0001, *LATENCY_BUCKETS))
PLACING = Histogram("moor_reconcile_place_seconds", "One call of the scheduler", buckets=LATENCY_BUCKETS)
COMMITS = Histogram("moor_reconcile_commit_seconds", "One guarded transaction", buckets=LATENCY_BUCKETS)
CONFLICTS = Counter("moor_reconcile_conflicts", "Transactions whose guards did not hold: tried again")
FAILURES = Counter("moor_reconcile_failures", "Turns that raised: tried again later")
PLACED = Counter("moor_reconcile_placements", "Allocations committed")
STOPPED = Counter("moor_reconcile_stops", "Allocations told to stop")
REJECTED = Counter("moor_reconcile_rejections", "Slots for which no node was found")
WAITING = Gauge("moor_reconcile_waiting_jobs", "Jobs with slots that wait for capacity")
COLLECTED = Counter("moor_reconcile_collected", "Keys removed because nothing needs them any more")
