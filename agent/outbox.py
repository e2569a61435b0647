"""Statuses on their way to the controller: only the newest of each allocation, until it is acknowledged.

A status that comes alone leaves at once; while more keep coming they wait for a short window and leave together: a
message costs more than the few statuses in it. What was sent and not acknowledged when a session ends, or for long
within one, is sent again unless something newer has taken its place.
"""

from __future__ import annotations

import asyncio

import structlog

from agent.journal import Journal, JournalError
from agent.metrics import STATUSES
from moorage.kit.clock import Clock
from moorage.wire.session_pb2 import StatusBatch
from moorage.wire.store_pb2 import AllocStatus

log = structlog.get_logger()

WINDOW_S = 0.05
RESEND_S = 10.0
LARGEST = 500


class Outbox:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._pending: dict[str, AllocStatus] = {}
        self._in_flight: dict[int, tuple[float, list[AllocStatus]]] = {}
        self._newest: dict[str, int] = {}
        self._serial = 0
        self._last_sent = float("-inf")
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pending) + len(self._in_flight)

    def put(self, status: AllocStatus) -> None:
        self._journal.put_status(status)
        self._queue(status)

    def resume(self, status: AllocStatus) -> None:
        """One that the journal remembers as not acknowledged."""
        self._queue(status)

    def forget(self, alloc: str) -> None:
        self._pending.pop(alloc, None)
        self._newest.pop(alloc, None)

    async def next_batch(self) -> StatusBatch:
        """Waits for something to send; the batch counts as in flight from now on."""
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
        if (wait := self._last_sent + WINDOW_S - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        await self._write_down()
        return self._take()

    async def _write_down(self) -> None:
        """What has been told must be remembered, or the next agent could tell of an earlier state; a node that cannot

        write speaks all the same.
        """
        try:
            await self._journal.flush()
        except JournalError as error:
            log.warning("telling what is not written down", error=str(error))

    def acknowledged(self, serial: int) -> None:
        """This batch is stored, and all before it."""
        for done in [number for number in self._in_flight if number <= serial]:
            self._journal.sent((status.alloc, status.serial) for status in self._in_flight.pop(done)[1])

    def resend(self, older_than_s: float = 0.0) -> None:
        """Queue again what is in flight for longer than this."""
        until = self._clock.monotonic() - older_than_s
        for serial in [serial for serial, (at, _) in self._in_flight.items() if at <= until]:
            for status in self._in_flight.pop(serial)[1]:
                if self._newest.get(status.alloc) == status.serial:
                    self._queue(status)

    def _queue(self, status: AllocStatus) -> None:
        self._newest[status.alloc] = status.serial
        self._pending[status.alloc] = status
        self._wake.set()

    def _take(self) -> StatusBatch:
        names = list(self._pending)[:LARGEST]
        statuses = [self._pending.pop(name) for name in names]
        self._serial += 1
        self._last_sent = self._clock.monotonic()
        self._in_flight[self._serial] = (self._last_sent, statuses)
        STATUSES.inc(len(statuses))
        return StatusBatch(serial=self._serial, statuses=statuses)
