"""What a controller does beside its parts."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from controller.api.tokens import authenticate
from controller.cache import Cache
from controller.leader.arrival import Arrival
from controller.options import Options
from controller.process import Process
from controller.store.memory import MemoryStore
from moorage.kit.clock import SystemClock
from moorage.kit.settings import Timings
from moorage.kit.tasks import Owner


def options(folder: Path) -> Options:
    nowhere = ("127.0.0.1", 0)
    return Options(folder, nowhere, nowhere, (), 0, 1 << 30, "http://c1", "c1:7071")


async def test_the_first_tokens_wait_for_a_store_that_does_not_answer(tmp_path: Path) -> None:
    store, rng, owner = MemoryStore(), random.Random(1), Owner("test")
    cache = Cache(store, SystemClock())
    arrival = Arrival(cache, store, SystemClock(), rng, "c1")
    owner.start(cache.run(), "cache")
    owner.start(arrival.run(), "arrival")
    await arrival.arrived.wait()
    store.trouble.lost_answers = 1
    process = Process(options(tmp_path), Timings(), rng, "c1")
    try:
        owner.start(process._bootstrap(store, cache, arrival), "bootstrap")
        async with asyncio.timeout(10):
            while not (tmp_path / "agent.token").exists():  # noqa: ASYNC110 (a file has no event)
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        peer = authenticate(cache, (tmp_path / "admin.token").read_text().strip())
        assert peer is not None and peer.role == "admin"
    finally:
        await owner.close()
        await store.close()
