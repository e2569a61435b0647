"""Five hundred sessions in one controller: what they cost while nothing happens."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from pathlib import Path

import pytest

from moorage.kit.settings import Timings
from tests.integration.dispatcher_world import controller, put_version
from tests.unit.cache.samples import key, put_alloc

AGENTS, EACH, BEAT_S, LOOK_S = 500, 10, 3.0, 10.0
CORES = 0.1


@pytest.mark.slow
async def test_heartbeats_of_a_fleet_cost_little(tmp_path: Path) -> None:
    async with controller("memory", tmp_path, Timings(heartbeat=BEAT_S, lost_after=60)) as moor:
        for job in range(AGENTS * EACH // 100):
            uid = str(uuid.UUID(int=job))
            first = job * 100
            puts = [put_alloc(key(n, uid=uid), f"node-{(first + n) % AGENTS}") for n in range(100)]
            await moor.write(put_version(uid=uid), *puts)
        command = [sys.executable, "-m", "tests.integration.dispatcher_fleet", str(moor.port), str(AGENTS), str(BEAT_S)]
        pipe = asyncio.subprocess.PIPE
        fleet = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert fleet.stdin is not None and fleet.stdout is not None
        try:
            async with asyncio.timeout(90):
                assert await fleet.stdout.readline() == b"ready\n"
            assert len(moor.dispatcher.sessions) == AGENTS
            assert all(moor.cache.status(alloc.id) for alloc in moor.cache.allocs())
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(LOOK_S)
            cores = (time.process_time() - used) / (time.monotonic() - began)
            assert all(moor.dispatcher.usage(f"node-{number}") for number in range(AGENTS))
        finally:
            fleet.stdin.close()
            await fleet.wait()
    assert cores < CORES
