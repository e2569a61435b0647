"""25,000 allocations have to fit beside everything else in the controller's 130 MiB: so much may each take."""

from __future__ import annotations

import gc
import random
import tracemalloc
import uuid

from controller.cache import Cache
from controller.store.memory import MemoryStore
from controller.store.protocol import KeyValue, Put, Reset
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.store_pb2 import HEALTHY
from tests.unit.cache.samples import alloc_status, key, put_alloc, put_status

FLEET = 10_000
BUDGET_BYTES = 28 * 2**20 / 25_000  # with its status and its place in the scheduler's snapshot


def fleet(rng: random.Random) -> Reset:
    nodes = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(500)]
    jobs = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(FLEET // 100)]
    puts: list[Put] = []
    for number in range(FLEET):
        node, alloc = rng.choice(nodes), key(number % 100, uid=jobs[number // 100])
        status = alloc_status(alloc, serial=number)
        status.tasks.add(
            name="server",
            state="running",
            started_ms=1_700_000_000_000 + number,
            container=rng.randbytes(32).hex(),
            image_id="sha256:" + "ab" * 32,
            health=HEALTHY,
        )
        puts += [put_alloc(alloc, node), put_status(node, status)]
    items = [KeyValue(put.key, put.value, 10_000 + n, 10_000 + n) for n, put in enumerate(puts)]
    return Reset(items, 100_000)


def test_a_fleet_fits_and_its_raw_values_are_not_held_twice() -> None:
    cache, truth = Cache(MemoryStore(), ManualClock()), fleet(random.Random(1))
    gc.collect()
    tracemalloc.start()
    try:
        cache.apply(truth)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert truth.items == []
    assert sum(1 for _ in cache.allocs()) == FLEET
    assert cache.get(keys.AllocKey(next(iter(cache.allocs())).job_uid, "web", 0, 1).key) is not None
    assert used / FLEET < BUDGET_BYTES
