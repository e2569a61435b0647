"""Keeps etcd small, and gets it out of a filled quota: compaction, defragmentation, the alarm.

One turn looks at the store and does what is due. It compacts to where the store was `keep_s` ago, or to the last
`keep_revisions` where more were written since. A quota alarm is handled at once: while it lasts etcd refuses every
put and every new lease, so that no leader could even be elected; therefore whoever finds no leader may do it, too.
Running it twice at a time does no harm.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import structlog

from controller.store.metrics import COMPACTIONS, FULL, SIZE
from controller.store.protocol import Store, StoreError, StoreStatus
from controller.store.trouble import Trouble
from moorage.kit.clock import Clock

log = structlog.get_logger()

ROOM = 0.9
"""A quota is no trouble any more once less than this part of it is used."""

LONGEST_PAUSE_S = 300.0


class Maintenance:
    """`entitled` says whether this controller is the one to act: it leads, or nobody does."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        entitled: Callable[[], bool],
        *,
        interval_s: float = 10.0,
        keep_s: float = 300.0,
        keep_revisions: int = 50_000,
        trouble: Trouble | None = None,
    ) -> None:
        self._trouble = trouble or Trouble()
        self._full = False
        self._store = store
        self._clock = clock
        self._entitled = entitled
        self._interval_s = interval_s
        self._keep_s = keep_s
        self._keep_revisions = keep_revisions
        self._seen: deque[tuple[float, int]] = deque()
        self._compacted = 0
        self._ceiling = 0
        self._pause_s = interval_s
        self._defragment_at = -math.inf

    @property
    def trouble(self) -> str:
        """What is wrong with the store at present, in the user's words; empty: nothing."""
        return self._trouble.text

    async def run(self) -> None:
        """Turn after turn, until cancelled. What keeps a turn from its work is said and tried again."""
        while True:
            try:
                await self.turn()
            except StoreError as error:
                log.warning("store not maintained", error=str(error))
                self._trouble.say(self.trouble or f"the store is not maintained: {error}")
            await self._clock.sleep(self._interval_s)

    async def turn(self) -> None:
        status = await self._store.status()
        self._forget_another_history(status.revision)
        SIZE.set(status.size_bytes)
        FULL.set(status.quota_alarm)
        if status.quota_alarm:
            self._ceiling, self._full = status.size_bytes, True
            self._trouble.say(full(status))
        if not self._entitled():
            self._full = status.quota_alarm
        elif self._full:
            await self._recover(status)
        else:
            await self._compact_to(self._due(status.revision))
        if not self._full:
            self._pause_s, self._defragment_at = self._interval_s, -math.inf
            self._trouble.say("")

    async def _recover(self, status: StoreStatus) -> None:
        """All history goes. Where that frees nothing, what is alive fills the quota: this stays said."""
        log.warning("store full", size_bytes=status.size_bytes, revision=status.revision)
        await self._compact_to(status.revision)
        now = await self._store.status()
        if now.used_bytes < ROOM * now.size_bytes or self._clock.monotonic() >= self._defragment_at:
            await self._defragment()
        await self._store.disarm()
        now = await self._store.status()
        self._full = now.size_bytes >= ROOM * self._ceiling
        self._trouble.say(filled(now) if self._full else "")
        log.warning("store compacted", size_bytes=now.size_bytes, trouble=self.trouble)

    async def _defragment(self) -> None:
        """It stops etcd for a while: where it frees nothing, it is tried less and less often."""
        await self._store.defragment()
        self._defragment_at = self._clock.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    async def _compact_to(self, revision: int) -> None:
        if revision > self._compacted:
            await self._store.compact(revision)
            self._compacted = revision
            COMPACTIONS.inc()

    def _due(self, revision: int) -> int:
        """The revision that may be compacted to now; 0 or less: none."""
        now = self._clock.monotonic()
        self._seen.append((now, revision))
        due = 0
        while self._seen and self._seen[0][0] <= now - self._keep_s:
            due = self._seen.popleft()[1]
        return max(due, revision - self._keep_revisions)

    def _forget_another_history(self, revision: int) -> None:
        """Revisions went back: etcd was restored from a backup."""
        if self._seen and revision < self._seen[-1][1]:
            self._seen.clear()
            self._compacted = 0


def full(status: StoreStatus) -> str:
    return f"the store is full: etcd uses {_mib(status)} and refuses writes at its quota; old history is being removed"


def filled(status: StoreStatus) -> str:
    return (
        f"the store is full: {_mib(status)} are left after old history was removed; "
        "delete jobs that are not needed, or restart etcd with a larger quota (MOOR_ETCD_QUOTA for the embedded one)"
    )


def _mib(status: StoreStatus) -> str:
    return f"{status.size_bytes / (1 << 20):.1f} MiB"
