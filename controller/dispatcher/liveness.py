"""Which nodes have gone silent. Heartbeats are kept here, in memory, and nowhere else.

Silence counts from the latest of: the node's last message, the beginning of this leadership (a new leader has heard
nobody yet), and the last time that this controller itself was away (stopped, or busy for long: then it is not the
nodes that were silent).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.cache import NodeEntry
from moorage.kit.clock import Clock
from moorage.wire.store_pb2 import NodeState


def silent(
    ready: Iterable[str], heard: Mapping[str, float], listening_since: float, now: float, lost_after_s: float
) -> list[str]:
    """Of the nodes that count as ready, those not heard of for longer than `lost_after_s`. Seconds, monotonic."""
    deadline = now - lost_after_s
    if listening_since > deadline:
        return []
    return [node for node in ready if heard.get(node, listening_since) <= deadline]


class Liveness:
    def __init__(self, clock: Clock, lost_after_s: float) -> None:
        self._clock = clock
        self._lost_after_s = lost_after_s
        self._heard: dict[str, float] = {}
        self._since = clock.monotonic()
        self._looked = self._since
        self.tick_s = min(1.0, lost_after_s / 10)

    def begin(self) -> None:
        """Everybody gets the full time from now on."""
        self._heard.clear()
        self._since = self._looked = self._clock.monotonic()

    def heard(self, node: str) -> None:
        self._heard[node] = self._clock.monotonic()

    def forget(self, node: str) -> None:
        self._heard.pop(node, None)

    def look(self, nodes: Iterable[NodeEntry]) -> list[str]:
        """One turn: ids of the nodes that are to be declared lost."""
        now = self._clock.monotonic()
        if now - self._looked > self._lost_after_s / 2:
            self.begin()
        self._looked = now
        ready = (node.id for node in nodes if node.state.phase == NodeState.READY)
        return silent(ready, self._heard, self._since, now, self._lost_after_s)
