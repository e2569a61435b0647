"""`?watch=1`: the state of a kind as lines of JSON that never end.

First `reset`, a `put` of each object, `synced`; then changes, and a `bookmark` where nothing changed for a while, so
that a client notices a dead connection. A watcher does not queue changes but the names of what changed: however slow
the client, an object that changed ten times is sent once, as it is by then. Only a client that is behind by thousands
of objects gets a new reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from controller.api.deps import ApiDeps
from moorage.model.view import View, WatchEvent

if TYPE_CHECKING:
    from controller.cache import Change

MEDIA_TYPE = "application/x-ndjson"
BATCH = 100
"""Objects rendered between two turns of the event loop."""


class Feed(Protocol):
    """One kind, seen by one watcher. Names are what the kind's REST path ends with."""

    def names(self) -> Iterable[str]:
        """Of everything that there is now."""
        ...

    def touched(self, change: Change) -> Iterable[str]:
        """Names whose view may be another after this change."""
        ...

    def view(self, name: str) -> View | None:
        """As it is now; None where it is not (any more), or is not for this watcher."""
        ...


class Watcher:
    """Keeps what is still to be told. `turn` gives the next lines, `changed` is the cache's callback."""

    def __init__(self, feed: Feed, backlog: int) -> None:
        self._feed = feed
        self._backlog = self._bound = backlog
        self._dirty: dict[str, None] = {}
        self._told: set[str] = set()
        self._reset = True
        self._syncing = False
        self._wake = asyncio.Event()
        self._wake.set()

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._dirty.update(dict.fromkeys(self._feed.touched(change)))
        if len(self._dirty) > self._bound:
            self._reset = True
            self._dirty.clear()
        if self._dirty or self._reset:
            self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """False where there was nothing to tell for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def turn(self, revision: int) -> bytes:
        """The next lines; the cache is at `revision`."""
        if self._reset:
            return self._begin(revision)
        names = list(islice(self._dirty, BATCH))
        for name in names:
            del self._dirty[name]
        lines = [line for name in names if (line := self._line(name, revision))]
        if self._syncing and not self._dirty:
            self._syncing = False
            self._bound = self._backlog
            lines.append(encoded("synced", revision))
        if not self._dirty and not self._syncing:
            self._wake.clear()
        return b"".join(lines)

    def _begin(self, revision: int) -> bytes:
        self._reset = False
        self._syncing = True
        self._told.clear()
        self._dirty = dict.fromkeys(self._feed.names())
        self._bound = self._backlog + len(self._dirty)
        return encoded("reset", revision)

    def _line(self, name: str, revision: int) -> bytes:
        view = self._feed.view(name)
        if view is not None:
            self._told.add(name)
            return encoded("put", revision, object=view)
        if name in self._told:
            self._told.discard(name)
            return encoded("delete", revision, name=name)
        return b""


def encoded(type: str, revision: int, **fields: Any) -> bytes:
    event = WatchEvent[Any](type=type, revision=revision, **fields)
    return event.model_dump_json().encode() + b"\n"


class WatchResponse(Response):
    """Streams until the client goes."""

    media_type = MEDIA_TYPE

    def __init__(self, deps: ApiDeps, feed: Feed) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._deps = deps
        self._feed = feed

    def init_headers(self, headers: Any = None) -> None:
        self.body = b""
        super().init_headers(headers)
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(self._stream(send), name="watch")
            while (await receive())["type"] != "http.disconnect":
                pass
            stream.cancel()

    async def _stream(self, send: Send) -> None:
        cache, settings = self._deps.cache, self._deps.settings
        watcher = Watcher(self._feed, settings.watch_backlog)
        unsubscribe = cache.subscribe(watcher.changed)
        try:
            while True:
                told = await watcher.wait(settings.bookmark_s)
                lines = watcher.turn(cache.revision) if told else encoded("bookmark", cache.revision)
                if lines:
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
                await asyncio.sleep(0)
        finally:
            unsubscribe()
