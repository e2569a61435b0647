"""One driver, shared by all runners: bounded starts, one listing for many askers, and what it all took.

More than a few starts at once gain nothing with today's engines, so they queue here, in order. A runner that has to
know what the engine really runs asks for a listing; all that ask while one is under way share the next one, which
begins after they asked and is therefore new enough for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from agent.drivers.protocol import (
    Attachment,
    Driver,
    DriverError,
    EngineAway,
    ExecDriver,
    Exit,
    Handle,
    Launch,
    LogsDriver,
    Observed,
    Progress,
)
from agent.metrics import DRIVER_ERRORS, DRIVER_SECONDS
from moorage.kit.tasks import Owner
from moorage.wire.spec_pb2 import TaskSpec

Inventory = Mapping[tuple[str, str], Sequence[Observed]]
"""By allocation and task: its runs, oldest first."""


class ContainerDriver(Driver, ExecDriver, LogsDriver, Protocol):
    """What the agent needs of a driver for containers."""


class Engine:
    def __init__(self, driver: ContainerDriver, *, starts_in_flight: int = 4) -> None:
        self.driver = driver
        self._slots = asyncio.Semaphore(starts_in_flight)
        self._owner = Owner("engine")
        self._current: asyncio.Task[Inventory | DriverError] | None = None
        self._next: asyncio.Task[Inventory | DriverError] | None = None

    async def look(self) -> Inventory:
        """All that the engine knows of ours, listed after this call began. Raises EngineAway."""
        if self._next is None:
            self._next = self._owner.start(self._list_after(self._current), "look")
        listed = await asyncio.shield(self._next)
        if isinstance(listed, DriverError):
            raise listed
        return listed

    def prepare(self, spec: TaskSpec) -> AsyncIterator[Progress]:
        return self.driver.prepare(spec)

    async def start(self, launch: Launch, attachment: Attachment) -> Handle:
        async with self._slots:
            with self._timed("start"):
                return await self.driver.start(launch, attachment)

    async def wait(self, handle: Handle) -> Exit:
        return await self.driver.wait(handle)

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> Exit:
        with self._timed("stop"):
            return await self.driver.stop(handle, signal, timeout_s)

    async def destroy(self, handle: Handle) -> None:
        with self._timed("destroy"):
            await self.driver.destroy(handle)

    async def close(self) -> None:
        await self._owner.close()
        await self.driver.close()

    async def _list_after(self, before: asyncio.Task[Any] | None) -> Inventory | DriverError:
        """A failure is a result like any other: all that share the listing hear of it."""
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._current, self._next = self._next, None
        try:
            with self._timed("recover"):
                listed = await self.driver.recover()
        except DriverError as error:
            return error
        return by_task(listed)

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        with DRIVER_SECONDS.labels(self.driver.name, operation).time():
            try:
                yield
            except DriverError as error:
                DRIVER_ERRORS.labels(self.driver.name, operation, "away" if _is_away(error) else "failed").inc()
                raise


def by_task(listed: Sequence[Observed]) -> Inventory:
    found: dict[tuple[str, str], list[Observed]] = {}
    for observed in sorted(listed, key=lambda o: o.handle.id.run):
        found.setdefault((observed.handle.id.alloc, observed.handle.id.task), []).append(observed)
    return found


def _is_away(error: DriverError) -> bool:
    return isinstance(error, EngineAway)
