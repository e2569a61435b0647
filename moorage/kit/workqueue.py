"""A work queue keyed by object: a key is worked on by one worker at a time, and changes meanwhile count once.

The first change of a quiet key is handed out at once; further ones of the same key within `window_s` of its last
turn count once. Failures come back with exponential backoff. (The machine of client-go's workqueue, on asyncio.)
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from moorage.kit.backoff import delay_ms
from moorage.kit.clock import Clock

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    def __init__(self, clock: Clock, *, window_s: float = 0.05, base_ms: int = 100, cap_ms: int = 10_000) -> None:
        self._clock = clock
        self._window_s = window_s
        self._base_ms = base_ms
        self._cap_ms = cap_ms
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._active: set[K] = set()
        self._dirty: set[K] = set()
        self._last_turn: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._counter = itertools.count()
        self._wake = asyncio.Event()
        self.added = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._dirty) + len(self._due)

    def add(self, key: K) -> None:
        """Something changed. Never blocks, may be called any number of times."""
        self.added += 1
        if key in self._active:
            self._dirty.add(key)
            return
        if key in self._queued:
            return
        quiet_at = self._last_turn.get(key, float("-inf")) + self._window_s
        now = self._clock.monotonic()
        if quiet_at > now:
            self.add_at(key, quiet_at)
        else:
            self._enqueue(key)

    def add_after(self, key: K, seconds: float) -> None:
        self.add_at(key, self._clock.monotonic() + seconds)

    def add_at(self, key: K, when: float) -> None:
        """Not before `when` (monotonic seconds); the earliest of several wishes counts."""
        if key in self._queued:
            return
        if when >= self._due.get(key, float("inf")):
            return
        self._due[key] = when
        heapq.heappush(self._later, (when, next(self._counter), key))
        self._wake.set()

    async def get(self) -> K:
        """The next key; the caller ends its turn by `done` or `failed`."""
        while True:
            self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._queued.discard(key)
                self._active.add(key)
                return key
            self._wake.clear()
            timeout = self._later[0][0] - self._clock.monotonic() if self._later else None
            # Not wait_for: until Python 3.12 it may swallow a cancellation, and a loop that lost its turn would go on.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()

    async def take(self, limit: int) -> list[K]:
        """Waits for one key, and takes all others that are ready with it, up to a limit."""
        keys = [await self.get()]
        while self._ready and len(keys) < limit:
            key = self._ready.popleft()
            self._queued.discard(key)
            self._active.add(key)
            keys.append(key)
        return keys

    def done(self, key: K) -> None:
        self._failures.pop(key, None)
        self._end_turn(key)

    def failed(self, key: K) -> float:
        """Ends the turn; the key comes back later. Returns after how many seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = delay_ms(failures, base_ms=self._base_ms, cap_ms=self._cap_ms) / 1000
        self._active.discard(key)
        self._dirty.discard(key)
        self._last_turn[key] = self._clock.monotonic()
        self.add_after(key, seconds)
        return seconds

    def _end_turn(self, key: K) -> None:
        self._active.discard(key)
        now = self._clock.monotonic()
        self._last_turn[key] = now
        if key in self._dirty:
            self._dirty.discard(key)
            self.add_at(key, now + self._window_s)
        if len(self._last_turn) > 1024 and len(self._last_turn) > 4 * (len(self._due) + len(self._queued)):
            horizon = now - self._window_s
            self._last_turn = {k: t for k, t in self._last_turn.items() if t > horizon}

    def _enqueue(self, key: K) -> None:
        self._due.pop(key, None)
        self._queued.add(key)
        self._ready.append(key)
        self._wake.set()

    def _promote(self) -> None:
        now = self._clock.monotonic()
        while self._later and self._later[0][0] <= now:
            when, _, key = heapq.heappop(self._later)
            if self._due.get(key) != when:
                continue
            del self._due[key]
            if key in self._active:
                self._dirty.add(key)
            elif key not in self._queued:
                self._enqueue(key)
