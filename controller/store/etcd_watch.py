"""A watch that never lies: a Reset after every gap, whole revisions, and news even where nothing happens.

One turn lists the prefix at some revision (the Reset) and streams what came after it. Whatever may mean a gap ends the
turn, and the next begins with a Reset: a stream that ended or broke, one cancelled for compaction, an answer from a
history that is behind ours (etcd restored from a backup), silence longer than a live etcd keeps.

Silence is told from quiet by asking for progress every `progress_s`: a stopped or cut off etcd does not answer. The
revision in such an answer is not a promise yet, since etcd before 3.4.25 and 3.5.8 may send it ahead of events that
it covers. It is handed on when the next answer is there, by when those events have long arrived; and where an event
comes at or below what was handed on all the same, that is a gap like any other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc
import structlog

from controller.store.metrics import WATCH_GAPS
from controller.store.protocol import Batch, Changes, KeyValue, Listing, Reset, StoreError, StoreUnavailable
from controller.store.rpc import EOF, Event, Rpc, WatchCall, WatchResponse, pb, translate
from moorage.kit.tasks import Owner

log = structlog.get_logger()

T = TypeVar("T")

PUT = 0
ASKED_FOR = -1
"""The watch id in answers to a request for progress, which concern the whole stream."""

SPELL_S = 10.0
"""A turn that went on for longer ends a spell of trouble."""


@dataclass(frozen=True, slots=True)
class WatchTimings:
    """Asked for progress every `progress_s`; after `silence_s` without any word etcd counts as stalled."""

    progress_s: float = 2.0
    silence_s: float = 5.0
    retry_s: float = 0.2
    retry_cap_s: float = 2.0


class Gap(Exception):
    """The stream cannot be trusted to go on; the message says why."""


@dataclass(slots=True)
class Feed:
    """Turns one stream's answers into batches: pure, and so the place where the rules of a watch are kept."""

    revision: int
    _fragments: list[Event] = field(default_factory=list)
    _promised: int = 0

    def take(self, answer: WatchResponse) -> Iterator[Changes]:
        if answer.canceled:
            raise Gap("compacted" if answer.compact_revision else answer.cancel_reason or "cancelled by etcd")
        if answer.header.revision < self.revision:
            raise Gap("the store's history went backwards")
        if answer.created:
            return
        if answer.events or answer.fragment:
            yield from self._events(answer)
        elif answer.watch_id == ASKED_FOR:
            yield from self._progress(answer.header.revision)
        else:
            yield from self._note(answer.header.revision)

    def _events(self, answer: WatchResponse) -> Iterator[Changes]:
        self._fragments.extend(answer.events)
        if answer.fragment:
            return
        events, self._fragments = self._fragments, []
        batch = collect(events)
        if events[0].kv.mod_revision <= self.revision:
            raise Gap("an event came after its revision was passed")
        self.revision = batch.revision
        yield batch

    def _progress(self, revision: int) -> Iterator[Changes]:
        promised, self._promised = self._promised, revision
        yield from self._note(promised)

    def _note(self, revision: int) -> Iterator[Changes]:
        if revision > self.revision:
            self.revision = revision
            yield Changes([], [], revision)


def collect(events: list[Event]) -> Changes:
    """Each key once, with its newest change."""
    newest: dict[bytes, Event] = {}
    for event in events:
        newest.pop(event.kv.key, None)
        newest[event.kv.key] = event
    puts, deletes = [], []
    for key, event in newest.items():
        kv = event.kv
        if event.type == PUT:
            puts.append(KeyValue(key.decode(), kv.value, kv.mod_revision, kv.create_revision))
        else:
            deletes.append(key.decode())
    return Changes(puts, deletes, events[-1].kv.mod_revision)


async def watch(
    rpc: Rpc, listing: Callable[[], Awaitable[Listing]], start: bytes, end: bytes, timings: WatchTimings
) -> AsyncGenerator[Batch, None]:
    """Turn after turn until closed. Trouble is said once per spell, and waited out."""
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began = loop.time()
        try:
            now = await listing()
            if failures:
                log.info("watch goes on", prefix=start.decode(), revision=now.revision)
            yield Reset(now.items, now.revision)
            async with aclosing(_follow(rpc, start, end, now.revision, timings)) as changes:
                async for batch in changes:
                    yield batch
        except (Gap, StoreError) as trouble:
            WATCH_GAPS.inc()
            failures = 1 if loop.time() - began > SPELL_S else failures + 1
            if failures == 1:
                log.info("watch begins anew", prefix=start.decode(), reason=str(trouble))
            await asyncio.sleep(min(timings.retry_cap_s, timings.retry_s * failures))


async def _follow(
    rpc: Rpc, start: bytes, end: bytes, revision: int, timings: WatchTimings
) -> AsyncGenerator[Changes, None]:
    """One stream's batches. Ends only by an exception."""
    stream = _Stream(rpc.watch(), timings)
    owner = Owner("watch")
    try:
        owner.start(stream.keep_asking(), "progress")
        await stream.create(start, end, revision + 1)
        feed = Feed(revision)
        while True:
            for batch in feed.take(await stream.read()):
                yield batch
    finally:
        stream.cancel()
        await owner.close()


class _Stream:
    """A watch call that ends itself when etcd no longer says a word.

    Silence is counted in wake-ups during one read, not in seconds: neither a consumer that takes long over a batch
    nor an event loop that stood still is etcd's silence.
    """

    def __init__(self, call: WatchCall, timings: WatchTimings) -> None:
        self._call = call
        self._timings = timings
        self._patience = math.ceil(timings.silence_s / timings.progress_s)
        self._reading = True
        self._created = False
        self._unanswered = 0
        self._stalled = False

    def cancel(self) -> None:
        """Also ends `keep_asking`, whose own cancellation the wait of a write that has just ended may swallow."""
        self._give_up()

    async def create(self, start: bytes, end: bytes, revision: int) -> None:
        request = pb.WatchCreateRequest(
            key=start or b"\0", range_end=end, start_revision=revision, progress_notify=True, fragment=True
        )
        await self._guarded(self._call.write(pb.WatchRequest(create_request=request)))

    async def read(self) -> WatchResponse:
        self._reading = True
        answer = await self._guarded(self._call.read())
        self._reading, self._created, self._unanswered = False, True, 0
        if answer is EOF:
            raise Gap("etcd ended the stream")
        return cast(WatchResponse, answer)

    async def keep_asking(self) -> None:
        """Ask for progress, and cancel the call where neither that nor anything else was answered."""
        while not self._stalled:
            await asyncio.sleep(self._timings.progress_s)
            if not self._reading:
                continue
            self._unanswered += 1
            if self._unanswered > self._patience:
                self._give_up()
            elif self._created:
                await self._ask()

    async def _ask(self) -> None:
        request = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
        try:
            await asyncio.wait_for(self._call.write(request), self._timings.silence_s)
        except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
            self._give_up()

    def _give_up(self) -> None:
        self._stalled = True
        self._call.cancel()

    async def _guarded(self, operation: Awaitable[T]) -> T:
        try:
            return await operation
        except grpc.RpcError as error:
            raise translate(error) from None
        except asyncio.CancelledError:
            if self._stalled:
                raise StoreUnavailable("etcd went silent") from None
            raise
