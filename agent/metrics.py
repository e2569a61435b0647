"""What the agent counts and times, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from moorage.kit.telemetry import LATENCY_BUCKETS

SESSIONS = Counter("moor_agent_sessions_total", "Sessions by how they ended or began.", ["outcome"])
SETS = Counter("moor_agent_sets_total", "Complete sets taken in.")
CONNECTED = Gauge("moor_agent_connected", "1 while a controller is heard.")
RUNNERS = Gauge("moor_agent_allocations", "Allocations known to this agent.")
ORPHANS = Gauge("moor_agent_orphans", "Allocations that the last complete set did not mention.")
RESTARTS = Counter("moor_agent_task_restarts_total", "Tasks started again on this node.")
STATUSES = Counter("moor_agent_statuses_total", "Statuses sent to the controller.")
DRIVER_SECONDS = Histogram(
    "moor_agent_driver_seconds", "Time that a driver's call took.", ["driver", "operation"], buckets=LATENCY_BUCKETS
)
DRIVER_ERRORS = Counter("moor_agent_driver_errors_total", "Driver calls that failed.", ["driver", "operation", "kind"])
START_SECONDS = Histogram(
    "moor_agent_assignment_to_start_seconds",
    "From an assignment's arrival to the driver's start.",
    buckets=LATENCY_BUCKETS,
)
