"""An independent reader of etcd: finds what a leadership wrote after another one had begun."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from controller.store.etcd import EtcdStore
from controller.store.protocol import Changes, KeyValue
from moorage.wire import keys
from moorage.wire.store_pb2 import Alloc, Cluster, JobState, NodeState


def term_of(entry: KeyValue) -> str:
    """The leadership that wrote this; empty for what is not a leader's."""
    if entry.key.startswith(keys.ALLOCS):
        return Alloc.FromString(entry.value).term
    if entry.key.startswith(keys.JOB_STATES):
        return JobState.FromString(entry.value).term
    if entry.key.startswith(keys.NODES) and entry.key.endswith("/state"):
        return NodeState.FromString(entry.value).term
    return ""


class Audit:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._current = ""
        self._loop = asyncio.new_event_loop()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.terms = 0
        self.written = 0
        self.violations: list[str] = []

    def __enter__(self) -> Audit:
        self._thread.start()
        self._ready.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._follow())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        store = await EtcdStore.connect([self._endpoint])
        try:
            async for batch in store.watch(keys.ROOT):
                if isinstance(batch, Changes):
                    self._judge(batch.puts)
                else:
                    self._note(batch.items)
                    if not self._ready.done():
                        self._ready.set_result(None)
        finally:
            await store.close()

    def _note(self, entries: list[KeyValue]) -> None:
        for entry in entries:
            if entry.key == keys.CLUSTER:
                newest = Cluster.FromString(entry.value).terms[-1].id
                self.terms += newest != self._current
                self._current = newest

    def _judge(self, puts: list[KeyValue]) -> None:
        for entry in sorted(puts, key=lambda each: each.revision):
            self._note([entry])
            if term := term_of(entry):
                self.written += 1
                if term != self._current:
                    self.violations.append(f"{entry.key} at revision {entry.revision} by an ended leadership")
