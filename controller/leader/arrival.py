"""Marks in the store where a process that writes began to: `arrival/{id}`, once a process and history.

Nothing of this process writes before its mark is in the store. So in a store that was put back to an old backup, the
first thing written is a mark that the backup does not hold, and what an agent has seen past the backup lies at or
behind it (controller.leader.history). A process that lives through a restore marks the history that it finds anew.
"""

from __future__ import annotations

import asyncio
import random

import structlog

from controller.cache import Cache
from controller.store.protocol import Absent, Put, Store, StoreError
from moorage.kit.clock import Clock
from moorage.wire import keys
from moorage.wire import store_pb2 as wire

log = structlog.get_logger()

RETRY_S = 0.5


class Arrival:
    """`arrived` is set while this process's mark is in the history that it writes to."""

    def __init__(self, cache: Cache, store: Store, clock: Clock, rng: random.Random, controller_id: str) -> None:
        self.arrived = asyncio.Event()
        self._cache = cache
        self._store = store
        self._clock = clock
        self._rng = rng
        self._controller_id = controller_id
        self._turned_back = asyncio.Event()
        cache.when_turned_back(self._leave)

    async def run(self) -> None:
        """For ever."""
        await self._cache.synced.wait()
        while True:
            self._turned_back.clear()
            if await self._mark(f"{self._rng.getrandbits(64):016x}") and not self._turned_back.is_set():
                self.arrived.set()
                await self._turned_back.wait()

    def _leave(self) -> None:
        self.arrived.clear()
        self._turned_back.set()

    async def _mark(self, arrival_id: str) -> bool:
        """False: the history turned back meanwhile. A write without an answer is asked for before it is repeated."""
        key = keys.arrival(arrival_id)
        value = wire.Arrival(controller=self._controller_id, at_ms=self._clock.now_ms()).SerializeToString()
        while not self._turned_back.is_set():
            try:
                await self._store.commit([Absent(key)], [Put(key, value)])
                return True  # or it was there: by an earlier try that was not answered
            except StoreError as error:
                log.info("this controller cannot write yet", error=str(error))
                await self._clock.sleep(RETRY_S)
        return False
