"""What the fake can do beyond the contract: for tests and benchmarks of everything above it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.drivers.fake import FakeDriver, FakeEngine
from agent.drivers.protocol import DriverError, HostNetwork, Launch, TaskId
from moorage.kit.clock import ManualClock
from moorage.wire.spec_pb2 import ContainerSpec, TaskSpec


def launch(alloc: str = "a1", *command: str, image: str = "shop:3") -> Launch:
    spec = TaskSpec(name="t", container=ContainerSpec(image=image))
    return Launch(TaskId(alloc, "t", 0), spec, {}, command, (), {"x": "y"}, f"/fake/{alloc}", "h")


async def test_an_end_can_be_ordered_with_a_reason() -> None:
    engine = FakeEngine()
    driver = FakeDriver(engine)
    handle = await driver.start(launch(), HostNetwork())
    engine.kill(handle.engine_id, 137, oom_killed=True)
    assert (await driver.wait(handle)).oom_killed


async def test_starts_can_be_slow_and_fail_on_demand() -> None:
    clock = ManualClock()
    failures = [DriverError("no luck today")]
    engine = FakeEngine(clock=clock, start_s=2.0, fail=lambda wish: failures.pop() if failures else None)
    driver = FakeDriver(engine)
    starting = asyncio.ensure_future(driver.start(launch(), HostNetwork()))
    await asyncio.sleep(0)
    assert not starting.done()
    await clock.advance(2)
    with pytest.raises(DriverError, match="no luck today"):
        await starting
    again = asyncio.ensure_future(driver.start(launch(), HostNetwork()))
    await asyncio.sleep(0)
    await clock.advance(2)
    await again
    assert engine.starts == 1


async def test_what_runs_outlives_the_process_in_a_file(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = FakeDriver(FakeEngine(state=state))
    kept = await first.start(launch("a1"), HostNetwork())
    ended = await first.start(launch("a2"), HostNetwork())
    gone = await first.start(launch("a3"), HostNetwork())
    first.engine.kill(ended.engine_id, 3)
    await first.destroy(gone)

    second = FakeDriver(FakeEngine(state=state))
    found = {observed.handle: observed for observed in await second.recover()}
    assert set(found) == {kept, ended}
    assert found[kept].running
    assert found[kept].labels["x"] == "y"
    assert (await second.wait(ended)).code == 3


async def test_drivers_of_other_nodes_see_only_their_own() -> None:
    engine = FakeEngine()
    await FakeDriver(engine, node="n1").start(launch(), HostNetwork())
    assert await FakeDriver(engine, node="n2").recover() == []


async def test_commands_that_it_does_not_know_run_for_ever() -> None:
    driver = FakeDriver(FakeEngine())
    handle = await driver.start(launch("a1", "sh", "-c", "httpd -f -p 80"), HostNetwork())
    await asyncio.sleep(0.01)
    [observed] = await driver.recover()
    assert observed.handle == handle
    assert observed.running
