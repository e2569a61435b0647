"""What a node uses now, out of heartbeats whose CPU time only ever counts up.

A rate needs two heartbeats: the last one read here is remembered per node, and until a second came nothing is said.
"""

from __future__ import annotations

from moorage.model.view import ResourcesView
from moorage.wire.session_pb2 import Heartbeat


class Rates:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[Heartbeat, int | None]] = {}

    def of(self, node_id: str, heartbeat: Heartbeat | None) -> ResourcesView | None:
        if heartbeat is None:
            self._seen.pop(node_id, None)
            return None
        before, cpu_millis = self._seen.get(node_id, (heartbeat, None))
        if heartbeat.at_ms > before.at_ms:
            cpu_millis = rate(before, heartbeat)
        self._seen[node_id] = (heartbeat, cpu_millis)
        if cpu_millis is None:
            return None
        usage = heartbeat.usage
        return ResourcesView(cpu_millis=cpu_millis, memory_bytes=usage.memory_bytes, disk_bytes=usage.disk_bytes)


def rate(before: Heartbeat, after: Heartbeat) -> int:
    """Millicores between two heartbeats; 0 where the node has booted in between."""
    used_us = after.usage.cpu_usage_us - before.usage.cpu_usage_us
    return max(0, used_us // (after.at_ms - before.at_ms))
