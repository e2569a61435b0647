"""What a node tells of itself while its engine comes, goes, or hangs."""

from __future__ import annotations

import asyncio

import pytest

from agent import facts
from agent.drivers.fake import FakeDriver, FakeEngine
from agent.drivers.protocol import DriverFacts
from agent.facts import FactsKeeper
from agent.fingerprint import Capacity
from moorage.kit.clock import ManualClock
from moorage.wire.store_pb2 import NodeFacts


class HungDriver(FakeDriver):
    """Takes the question, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__(FakeEngine())
        self.go = asyncio.Event()
        self.asked = 0

    async def fingerprint(self) -> DriverFacts:
        self.asked += 1
        await self.go.wait()
        return await super().fingerprint()


def keeper(driver: FakeDriver, clock: ManualClock) -> FactsKeeper:
    return FactsKeeper(
        driver,
        clock,
        name="n1",
        version="0.1",
        capacity=Capacity(1000, 1 << 30, 1 << 30),
        labels={},
        usage=None,
        parent_of=str,
    )


async def test_an_engine_that_hangs_keeps_no_node_from_telling_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "PATIENCE_S", 0.02)
    driver = HungDriver()
    keeping = keeper(driver, ManualClock())
    for _ in range(3):
        told = await keeping.read()
        assert list(told.drivers) == [] and "has not answered" in told.missing["fake"]
    assert driver.asked == 1
    driver.go.set()
    assert list((await keeping.read()).drivers) == ["fake"]


async def test_an_engine_that_comes_and_goes_is_told_and_looked_for_more_often_while_away() -> None:
    clock, engine = ManualClock(), FakeEngine()
    keeping = keeper(FakeDriver(engine), clock)
    heard: list[NodeFacts] = []
    await keeping.read()
    watching = asyncio.ensure_future(keeping.watch(heard.append))
    await asyncio.sleep(0)

    async def after(seconds: float) -> list[list[str]]:
        await clock.advance(seconds)
        await asyncio.sleep(0.05)
        return [list(told.drivers) for told in heard]

    engine.away = True
    assert await after(facts.HEALTHY_S - 1) == []
    assert await after(1) == [[]]
    engine.away = False
    assert await after(facts.UNHEALTHY_S) == [[], ["fake"]]
    watching.cancel()
