"""What the dispatcher tells about itself."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from moorage.kit.telemetry import LATENCY_BUCKETS

SESSIONS = Gauge("moor_sessions", "Agent sessions held by this controller.")
HELLOS = Counter("moor_session_hellos_total", "Agents that said hello, by what they were answered.", ["answer"])
RECEIVED = Counter("moor_session_received_total", "Messages from agents, by kind.", ["kind"])
SENT = Counter("moor_session_sent_total", "Messages to agents, by kind.", ["kind"])
ASSIGNMENTS = Counter("moor_session_assignments_total", "Assignments sent, in sets and deltas.")
STATUSES = Counter("moor_statuses_total", "Statuses from agents, by what became of them.", ["outcome"])
STATUS_SECONDS = Histogram(
    "moor_status_commit_seconds", "From a status batch's arrival to its being stored.", buckets=LATENCY_BUCKETS
)
STATUS_CONFLICTS = Counter("moor_status_conflicts_total", "Status transactions that a guard refused.")
LOST = Counter("moor_nodes_lost_total", "Nodes declared lost.")
STREAMS = Gauge("moor_attach_streams", "Log streams open to agents.")
