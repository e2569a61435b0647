"""What the contract suite runs in: a store and what can happen to it, alike for memory and for real etcds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

from controller.store.etcd import EtcdStore
from controller.store.etcd_watch import WatchTimings
from controller.store.memory import MemoryStore
from controller.store.memory_lease import Snapshot
from controller.store.protocol import Batch, Changes, KeyValue, Reset, Store
from tests.contract.etcds import EtcdProcess

QUICK = WatchTimings(progress_s=0.2, silence_s=0.6, retry_s=0.05, retry_cap_s=0.2)


class World(Protocol):
    store: Store

    async def stop(self) -> None:
        """From now on nothing is answered."""

    async def go_on(self) -> None: ...

    async def restart(self) -> None:
        """Killed, and started again with what it had."""

    async def save(self) -> None: ...

    async def restore(self) -> None:
        """Back to what was saved."""


class MemoryWorld:
    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.store: Store = self.memory
        self._saved: Snapshot | None = None

    async def stop(self) -> None:
        self.memory.trouble.leave()

    async def go_on(self) -> None:
        self.memory.trouble.come_back()

    async def restart(self) -> None:
        await self.stop()
        await asyncio.sleep(0.01)
        await self.go_on()

    async def save(self) -> None:
        self._saved = self.memory.trouble.snapshot()

    async def restore(self) -> None:
        assert self._saved is not None
        self.memory.trouble.restore(self._saved)


class EtcdWorld:
    """Processes are started and killed in a thread, so that the store under test goes on meanwhile."""

    def __init__(self, etcd: EtcdProcess, store: EtcdStore, folder: Path) -> None:
        self.etcd = etcd
        self.store: Store = store
        self._backup = folder / "backup"

    async def stop(self) -> None:
        self.etcd.stop()

    async def go_on(self) -> None:
        self.etcd.go_on()

    async def restart(self) -> None:
        await asyncio.to_thread(self.etcd.restart)

    async def save(self) -> None:
        await asyncio.to_thread(self.etcd.save, self._backup)

    async def restore(self) -> None:
        await asyncio.to_thread(self.etcd.restore, self._backup)


@asynccontextmanager
async def world(kind: str, folder: Path, *flags: str, timeout_s: float = 5.0) -> AsyncIterator[World]:
    """A world of its own, whose etcd may be killed."""
    if kind == "memory":
        memory = MemoryWorld()
        yield memory
        await memory.store.close()
        return
    etcd = EtcdProcess(kind, folder, *flags)
    try:
        await asyncio.to_thread(etcd.start)
        store = await EtcdStore.connect([etcd.endpoint], timeout_s=timeout_s, watch_timings=QUICK)
        yield EtcdWorld(etcd, store, folder)
        await store.close()
    finally:
        etcd.kill()


class Follower:
    """Follows a prefix as a cache would, and holds the watch to its promises with every batch."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.data: dict[str, KeyValue] = {}
        self.batches: list[Batch] = []
        self.revision = 0
        self.resets = 0
        self._store = store
        self._prefix = prefix
        self._news = asyncio.Event()

    async def __aenter__(self) -> Follower:
        self._task = asyncio.create_task(self._follow(), name="follower")
        await self.until(lambda: self.resets > 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def until(self, holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                self._news.clear()
                waiting = asyncio.create_task(self._news.wait())
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self._task.done():
                    await self._task

    async def passes(self, revision: int) -> None:
        await self.until(lambda: self.revision >= revision)

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._store.watch(self._prefix)) as batches:
            async for batch in batches:
                self._take(batch)
                self._news.set()

    def _take(self, batch: Batch) -> None:
        self.batches.append(batch)
        if isinstance(batch, Reset):
            self.resets += 1
            self.data = {item.key: item for item in batch.items}
        else:
            assert self.resets, "the first batch is a Reset"
            assert batch.revision > self.revision, "between Resets revisions only rise"
            self._apply(batch)
        self.revision = batch.revision

    def _apply(self, batch: Changes) -> None:
        assert not {put.key for put in batch.puts} & set(batch.deletes), "a key occurs once"
        for put in batch.puts:
            assert self.revision < put.revision <= batch.revision
            self.data[put.key] = put
        for key in batch.deletes:
            self.data.pop(key, None)


async def eventually(attempt: Callable[[], Awaitable[object]], timeout_s: float = 20.0) -> None:
    """Until it raises no more."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                await attempt()
                return
            except Exception:
                await asyncio.sleep(0.05)
