"""What the store tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from moorage.kit.telemetry import LATENCY_BUCKETS

CALL_SECONDS = Histogram(
    "moor_store_call_seconds", "Calls to etcd, by call, failed ones included.", ["call"], buckets=LATENCY_BUCKETS
)
FAILURES = Counter("moor_store_failures_total", "Calls to etcd that failed, by call and error.", ["call", "error"])
WATCH_GAPS = Counter("moor_store_watch_gaps_total", "Watches that had to begin anew.")
SIZE = Gauge("moor_store_size_bytes", "What etcd uses of its quota.")
FULL = Gauge("moor_store_full", "1 while etcd refuses writes at its quota.")
COMPACTIONS = Counter("moor_store_compactions_total", "Compactions ordered by this controller.")
