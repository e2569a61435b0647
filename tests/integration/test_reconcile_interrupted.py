"""Every change of several steps goes on where it was interrupted, wherever that was.

Each leadership gets one commit (or two, or three), then another begins; so a change is interrupted between any two of
its commits. What must not happen on the way is watched by the world: no slot ever has two attempts that are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.store.protocol import StoreUnavailable
from moorage.wire import keys
from tests.integration.reconcile_world import World, spec, world

pytestmark = pytest.mark.parametrize("commits", [1, 2, 3])


async def short_leaderships(w: World, commits: int) -> None:
    while True:
        w.leaders.change_after = commits
        w.leaders.changed.clear()
        await w.leaders.changed.wait()
        await w.leaders.elect()


@asynccontextmanager
async def troubled(commits: int, nodes: tuple[str, ...] = ("a", "b", "c")) -> AsyncIterator[World]:
    async with world(nodes) as w:
        w.owner.start(short_leaderships(w, commits), "leaderships")
        await asyncio.sleep(0)
        yield w


def exactly(w: World, uid: str, count: int, version: int) -> bool:
    found = w.running(uid)
    return len(found) == count and all(entry.version == version for entry in found.values())


async def test_apply(commits: int) -> None:
    async with troubled(commits) as w:
        uid = await w.apply(spec(5))
        await w.until(lambda: exactly(w, uid, 5, 1))
        await w.rest()
        assert [k.attempt for k in w.records(uid)] == [1] * 5


async def test_scale(commits: int) -> None:
    async with troubled(commits) as w:
        uid = await w.apply(spec(2))
        await w.until(lambda: exactly(w, uid, 2, 1))
        await w.apply(spec(6))
        await w.until(lambda: exactly(w, uid, 6, 2))
        await w.apply(spec(1))
        await w.until(lambda: exactly(w, uid, 1, 3) and len(w.records(uid)) == 1)


async def test_image_change(commits: int) -> None:
    async with troubled(commits) as w:
        uid = await w.apply(spec(3))
        await w.until(lambda: exactly(w, uid, 3, 1))
        await w.apply(spec(3, image="shop:2"))
        await w.until(lambda: exactly(w, uid, 3, 2))


async def test_node_loss(commits: int) -> None:
    async with troubled(commits, ("a", "b")) as w:
        uid = await w.apply(spec(4, strategy="spread"))
        await w.until(lambda: exactly(w, uid, 4, 1))
        await w.lose("a")
        await w.until(lambda: exactly(w, uid, 4, 1) and {e.node for e in w.running(uid).values()} == {"b"})
        await w.heal("a")
        await w.until(lambda: not w.cache.allocs_of_node("a"))


async def test_drain(commits: int) -> None:
    async with troubled(commits, ("a", "b")) as w:
        uid = await w.apply(spec(4, strategy="spread"))
        await w.until(lambda: exactly(w, uid, 4, 1))
        await w.node_spec("a", drain=True)
        await w.until(lambda: exactly(w, uid, 4, 1) and {e.node for e in w.running(uid).values()} == {"b"})


async def test_delete(commits: int) -> None:
    async with troubled(commits) as w:
        uid = await w.apply(spec(4))
        await w.until(lambda: exactly(w, uid, 4, 1))
        await w.delete()
        await w.until(lambda: w.cache.job("default", "shop") is None)
        left = await w.store.list(keys.ROOT)
        assert [kv.key for kv in left.items if uid in kv.key] == []


async def test_forgetting_a_node(commits: int) -> None:
    async with troubled(commits, ("a", "b")) as w:
        uid = await w.apply(spec(4, strategy="spread", disconnect={"replace_after": "1h"}))
        await w.until(lambda: exactly(w, uid, 4, 1))
        await w.lose("a")
        await w.ask("a", "forget_node", "a")
        await w.until(lambda: exactly(w, uid, 4, 1) and {e.node for e in w.running(uid).values()} == {"b"})
        assert w.cache.requests() == []


async def test_answers_of_the_store_that_get_lost(commits: int) -> None:
    """The write took effect, and nobody knows."""
    async with world() as w:
        uid = await w.apply(spec(3))
        await w.until(lambda: exactly(w, uid, 3, 1))
        w.store.trouble.lost_answers = commits + 1
        with pytest.raises(StoreUnavailable):
            await w.apply(spec(5, image="shop:2"))
        await w.until(lambda: exactly(w, uid, 5, 2))
