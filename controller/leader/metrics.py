"""What the leadership tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LEADING = Gauge("moor_leader", "1 while this controller leads.")
ELECTIONS = Counter("moor_leader_elections_total", "Leaderships that this controller began.")
ENDED = Counter("moor_leader_ended_total", "Leaderships of this controller that ended, by reason.", ["reason"])
