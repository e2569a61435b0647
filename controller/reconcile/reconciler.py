"""Reconciles while its controller leads: each leadership gets a fresh `Lead`, and nothing outlives it.

Nothing is kept in memory that the next leader could not read from the store, so a change that was interrupted between
any two commits is simply continued.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

import structlog

from controller.cache import Cache
from controller.reconcile.lead import Lead
from controller.reconcile.ports import Leadership, Term
from controller.reconcile.settings import ReconcileSettings
from moorage.kit.clock import Clock
from moorage.wire.store_pb2 import Event

log = structlog.get_logger()

TOLD = 20
"""Events of other parts that wait for a leadership; older ones are dropped."""

PAUSE_S = 1.0
"""After a leadership's work broke down, which is an error of ours."""


class Reconciler:
    def __init__(
        self,
        cache: Cache,
        leader: Leadership,
        clock: Clock,
        rng: random.Random,
        settings: ReconcileSettings | None = None,
    ) -> None:
        self._cache = cache
        self._leader = leader
        self._clock = clock
        self._rng = rng
        self._settings = settings or ReconcileSettings()
        self._elected = asyncio.Event()
        self._told: deque[Event] = deque(maxlen=TOLD)

    def tell(self, kind: str, message: str, *, object: str = "cluster") -> None:
        """An event that did not come of a job's turn. One told before an election is written by who is elected here."""
        self._told.append(Event(at_ms=self._clock.now_ms(), kind=kind, message=message, object=object, count=1))

    async def run(self) -> None:
        """For ever."""
        self._leader.subscribe(lambda _: self._elected.set())
        while True:
            self._elected.clear()
            term = self._leader.term
            if term is None:
                await self._elected.wait()
            else:
                await self._lead(term)

    async def _lead(self, term: Term) -> None:
        """Until the leadership changes."""
        log.info("reconciling", term=term.id)
        lead = Lead(self._cache, self._leader, term, self._clock, self._rng, self._settings, self._told)
        working = asyncio.create_task(lead.run(), name="reconcile/lead")
        over = asyncio.create_task(self._over(term), name="reconcile/over")
        try:
            await asyncio.wait((working, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, over):
                task.cancel()
            results = await asyncio.gather(working, over, return_exceptions=True)
        if isinstance(error := results[0], Exception):
            log.error("reconciling broke down", term=term.id, error=repr(error), exc_info=error)
            await self._clock.sleep(PAUSE_S)

    async def _over(self, term: Term) -> None:
        while (now := self._leader.term) is not None and now.id == term.id:
            self._elected.clear()
            await self._elected.wait()
