"""What this node tells of itself: its fingerprint, again when it changes, and what it uses at each heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from agent.cgroup import Cgroups
from agent.drivers.protocol import Driver, DriverFacts
from agent.fingerprint import Capacity, fingerprint
from agent.usage import UsageReader
from moorage.kit.clock import Clock
from moorage.wire.session_pb2 import Heartbeat
from moorage.wire.store_pb2 import NodeFacts

HEALTHY_S = 15.0
UNHEALTHY_S = 1.0
PATIENCE_S = 3.0  # with an engine that takes the question and does not answer

log = structlog.get_logger()


class FactsKeeper:
    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        *,
        name: str,
        version: str,
        capacity: Capacity,
        labels: Mapping[str, str],
        usage: UsageReader | None,
        parent_of: Callable[[str], str],
    ) -> None:
        """`usage`: None where nothing real runs."""
        self._driver = driver
        self._clock = clock
        self._name = name
        self._version = version
        self._capacity = capacity
        self._labels = labels
        self._usage = usage
        self._parent_of = parent_of
        self._cgroups = Cgroups()
        self._last: NodeFacts | None = None
        self._asking: asyncio.Task[DriverFacts] | None = None

    async def read(self) -> NodeFacts:
        drivers = {self._driver.name: await self._ask_driver()}
        self._last = await asyncio.to_thread(
            fingerprint,
            self._name,
            self._version,
            drivers,
            self._cgroups,
            capacity=self._capacity,
            labels=self._labels,
        )
        return self._last

    async def _ask_driver(self) -> DriverFacts:
        """A hung engine must not keep a node from its session: its question stays open, and it counts as away."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._driver.fingerprint(), name="fingerprint")
        done, _ = await asyncio.wait([self._asking], timeout=PATIENCE_S)
        if not done:
            why = f"it has not answered within {PATIENCE_S:g} s"
            return DriverFacts(healthy=False, missing={self._driver.name: why})
        asked, self._asking = self._asking, None
        return asked.result()

    async def watch(self, changed: Callable[[NodeFacts], None]) -> None:
        """An engine that is away is looked for more often than one that is there."""
        while True:
            healthy = self._last is not None and self._driver.name in self._last.drivers
            await self._clock.sleep(HEALTHY_S if healthy else UNHEALTHY_S)
            before = self._last
            try:
                if await self.read() != before and self._last is not None:
                    log.info("facts changed", node=self._name, drivers=list(self._last.drivers))
                    changed(self._last)
            except OSError as error:
                log.warning("facts not read", node=self._name, error=str(error))

    def usage_of(self, alive: Callable[[], Iterable[str]]) -> Callable[[], Awaitable[Heartbeat]]:
        reader = self._usage
        if reader is None:
            return _nothing

        def read(parents: Mapping[str, str]) -> Heartbeat:
            return Heartbeat(usage=reader.node(), allocs=reader.allocs(parents))

        async def usage() -> Heartbeat:
            return await asyncio.to_thread(read, {alloc: self._parent_of(alloc) for alloc in alive()})

        return usage


async def _nothing() -> Heartbeat:
    return Heartbeat()
