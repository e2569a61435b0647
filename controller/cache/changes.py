"""What subscribers of the cache are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.store.protocol import KeyValue


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs: `kind` is the first part of the key (job, alloc, status …). A deletion has no `new`."""

    kind: str
    key: str
    old: KeyValue | None
    new: KeyValue | None


Subscriber = Callable[[Sequence[Change]], None]
