"""Which images are asked for, how often, and what is told meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agent.drivers.docker_engine import Engine, Refused
from agent.drivers.docker_images import Images
from agent.drivers.protocol import DriverError
from moorage.kit.tasks import Owner
from moorage.wire.spec_pb2 import PULL_ALWAYS, ContainerSpec

MIB = 1 << 20
SHOP = ContainerSpec(image="shop:3")


class FakeRegistryEngine(Engine):
    """An engine with no images, whose pulls report what a test says."""

    def __init__(self, reports: list[dict[str, Any]]) -> None:
        super().__init__("/nowhere")
        self.reports = reports
        self.there: set[str] = set()
        self.asked = 0
        self.pulls = 0
        self.go = threading.Event()
        self.go.set()

    def json(self, method: str, path: str, call: str, **request: Any) -> Any:
        self.asked += 1
        image = path.removeprefix("/images/").removesuffix("/json")
        if image not in self.there:
            raise Refused(404, f"No such image: {image}")
        return {}

    def sdk(self) -> Any:
        return self

    def __enter__(self) -> FakeRegistryEngine:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def pull(self, image: str, *, stream: bool, decode: bool) -> Iterator[dict[str, Any]]:
        self.pulls += 1
        self.go.wait(5)
        yield from self.reports


def downloading(layer: str, current: int, total: int) -> dict[str, Any]:
    return {"id": layer, "status": "Downloading", "progressDetail": {"current": current, "total": total}}


@pytest.fixture
async def tasks() -> AsyncIterator[Owner]:
    owner = Owner("test")
    yield owner
    await owner.close()


async def ensure(images: Images, container: ContainerSpec = SHOP) -> list[str]:
    return [progress.message async for progress in images.ensure(container)]


async def test_an_image_that_is_there_is_asked_for_once(tasks: Owner) -> None:
    engine = FakeRegistryEngine([])
    engine.there.add("shop:3")
    images = Images(engine, tasks)
    assert [await ensure(images) for _ in range(3)] == [[], [], []]
    assert (engine.asked, engine.pulls) == (1, 0)
    images.forget("shop:3")
    await ensure(images)
    assert engine.asked == 2


async def test_a_pull_tells_how_far_it_is_in_bytes_over_all_layers(tasks: Owner) -> None:
    engine = FakeRegistryEngine(
        [
            {"id": "a", "status": "Pulling fs layer", "progressDetail": {}},
            downloading("a", 4 * MIB, 12 * MIB),
            downloading("b", 8 * MIB, 36 * MIB),
            {"id": "a", "status": "Download complete"},
        ]
    )
    messages = await ensure(Images(engine, tasks))
    assert messages[-1] == "pulling shop:3: 20 of 48 MiB"


async def test_those_who_want_the_same_image_share_one_pull(tasks: Owner) -> None:
    engine = FakeRegistryEngine([downloading("a", MIB, MIB)])
    engine.go.clear()
    images = Images(engine, tasks)
    waiting = [asyncio.ensure_future(ensure(images)) for _ in range(4)]
    await asyncio.sleep(0.1)
    waiting[0].cancel()
    engine.go.set()
    await asyncio.gather(*waiting[1:])
    assert engine.pulls == 1
    await ensure(images)
    assert engine.pulls == 1


async def test_an_error_in_the_middle_of_a_pull_is_told_to_all_who_wait_and_the_next_try_is_a_new_one(
    tasks: Owner,
) -> None:
    engine = FakeRegistryEngine([downloading("a", 1, 2), {"error": "write /x: no space left on device"}])
    engine.go.clear()
    images = Images(engine, tasks)
    waiting = asyncio.gather(ensure(images), ensure(images), return_exceptions=True)
    await asyncio.sleep(0.1)
    engine.go.set()
    results = await waiting
    assert all(isinstance(result, DriverError) and "no disk space" in str(result) for result in results)
    engine.reports = []
    await ensure(images)
    assert engine.pulls == 2


async def test_always_pulls_although_it_is_there(tasks: Owner) -> None:
    engine = FakeRegistryEngine([])
    engine.there.add("shop:3")
    await ensure(Images(engine, tasks), ContainerSpec(image="shop:3", pull=PULL_ALWAYS))
    assert (engine.asked, engine.pulls) == (0, 1)


async def test_a_pull_that_is_cut_off_is_not_taken_for_success(tasks: Owner) -> None:
    engine = FakeRegistryEngine([])
    engine.go.clear()
    waiting = asyncio.ensure_future(ensure(Images(engine, tasks)))
    await asyncio.sleep(0.05)
    await tasks.close()
    engine.go.set()
    with pytest.raises(DriverError, match="interrupted"):
        await waiting
