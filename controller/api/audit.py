"""Who did what, as events: written in the transaction that does it, so that neither is there without the other.

The same thing done again within a minute counts up the event that is there instead of adding one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.views import counts
from controller.events import event_id
from controller.store.protocol import Put
from moorage.kit.clock import Clock
from moorage.wire import keys
from moorage.wire.store_pb2 import Event

SAME_FOR_MS = 60_000
KEPT = 1000

Said = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Noted:
    """An event on its way into the store."""

    said: Said
    id: str
    event: Event

    @property
    def put(self) -> Put:
        return Put(keys.event(self.id), self.event.SerializeToString())


class Audit:
    def __init__(self, clock: Clock, new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self._recent: dict[Said, Noted] = {}

    def note(self, principal: str, object: str, kind: str, message: str, project: str = "") -> Noted:
        """`kind` and `message` tell what is being done to `object` (job/hello, node/h1)."""
        said, now_ms = (principal, project, object, kind, message), self._clock.now_ms()
        event = Event(
            at_ms=now_ms, kind=kind, message=message, principal=principal, project=project, object=object, count=1
        )
        before = self._recent.get(said)
        if before is None or not 0 <= now_ms - before.event.at_ms < SAME_FOR_MS:
            return Noted(said, event_id(now_ms, self._new_id()), event)
        event.count += before.event.count
        return Noted(said, before.id, event)

    def done(self, noted: Noted) -> None:
        """It was written."""
        if len(self._recent) >= KEPT:
            self._recent.clear()
        self._recent[noted.said] = noted


def job_change(before: Mapping[str, Any] | None, after: Mapping[str, Any], version: int) -> tuple[str, str]:
    """Kind and message of a change from one spec to another."""
    if before is None:
        return "created", f"created: {_counts(after)}"
    moved = ", ".join(
        f"{name} from {old} to {new}"
        for name, new in counts(after).items()
        if (old := counts(before).get(name, new)) != new
    )
    if moved and _without_counts(before) == _without_counts(after):
        return "scaled", f"scaled {moved}"
    return "updated", f"updated to version {version}" + (f", scaled {moved}" if moved else "")


def _counts(spec: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts(spec).items())


def _without_counts(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "groups": {name: {**spec["groups"][name], "count": 0} for name in counts(spec)}}
