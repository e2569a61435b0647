"""kill -9 of the controller process at random moments: whatever was answered holds, and the engines converge to it.

Jobs are applied, scaled, updated, stopped and deleted in between; each change is sent again until it is answered, as
people and programs do. The seeds share one cluster, so that each begins with what the kills before it have left.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from moorage.client import Client
from moorage.model.view import AllocationView
from tests.integration.processes import Cluster, cluster, gone_or_asked, insist, service

pytestmark = pytest.mark.etcd

SEEDS = range(10)
CHANGES = 5
KILLS = 2


class Wishes:
    """What people want of the jobs of one seed, and one random change of it."""

    def __init__(self, client: Client, rng: random.Random, seed: int) -> None:
        self.counts: dict[str, int] = {}
        self.images: dict[str, str] = {}
        self._client = client
        self._rng = rng
        self._names = [f"s{seed}-{number}" for number in range(3)]

    async def change(self) -> None:
        name = self._rng.choice(self._names)
        if name not in self.counts:
            await self._put(name, self._rng.randint(1, 6), "busybox:1")
            return
        what = self._rng.choice([self._scale, self._update, self._stop, self._delete])
        await what(name)

    async def _put(self, name: str, count: int, image: str) -> None:
        self.counts[name], self.images[name] = count, image
        await insist(lambda: self._client.put_job({"name": name, **service(count, image)}), 60)

    async def _scale(self, name: str) -> None:
        self.counts[name] = self._rng.randint(0, 8)
        await insist(lambda: self._client.scale_job(name, "web", self.counts[name]), 60)

    async def _update(self, name: str) -> None:
        await self._put(name, self.counts[name], f"busybox:{self._rng.randint(1, 5)}")

    async def _stop(self, name: str) -> None:
        running = await insist(lambda: self._client.list_allocations(job=name), 60)
        if running:
            chosen = self._rng.choice(running).id
            await insist(lambda: gone_or_asked(self._client.stop_allocation(chosen)), 60)

    async def _delete(self, name: str) -> None:
        """Deleted, and its name free again."""
        del self.counts[name]
        await insist(lambda: gone_or_asked(self._client.delete_job(name)), 60)
        self._names.remove(name)
        self._names.append(f"{name}x")


async def kill_now_and_then(made: Cluster, rng: random.Random) -> None:
    [controller] = made.controllers
    for _ in range(KILLS):
        await asyncio.sleep(rng.uniform(0, 1.2))
        await controller.kill()
        await controller.start()
        await controller.ready()


async def test_a_controller_that_is_killed_at_any_moment_converges_to_what_was_answered(tmp_path: Path) -> None:
    async with cluster(tmp_path, controllers=1, agents=2) as made, made.controllers[0].client() as client:
        for seed in SEEDS:
            await one_seed(made, client, seed)


async def one_seed(made: Cluster, client: Client, seed: int) -> None:
    rng = random.Random(seed)
    wishes = Wishes(client, rng, seed)
    killing = asyncio.create_task(kill_now_and_then(made, random.Random(seed + 1000)))
    for _ in range(CHANGES):
        await wishes.change()
        await asyncio.sleep(rng.uniform(0, 0.6))
    await killing
    running = await made.runs(client, wishes.counts, 60)
    assert made.doubles() == [], f"seed {seed}"
    await as_wanted(client, wishes, running)
    for name in wishes.counts:
        await client.delete_job(name)
    await made.runs(client, {})


async def as_wanted(client: Client, wishes: Wishes, running: list[AllocationView]) -> None:
    """By the newest version each, in its newest words."""
    jobs = {name: await client.get_job(name) for name in wishes.counts}
    for one in running:
        assert one.version == jobs[one.job].version
    for name, job in jobs.items():
        assert job.spec["groups"]["web"]["tasks"]["server"]["container"]["image"] == wishes.images[name]
