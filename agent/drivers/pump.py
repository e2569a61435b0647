"""Hands what a blocking reader finds over to the event loop, piece by piece.

The reader has a thread of its own and gets at most `ahead` pieces ahead of the consumer: a slow consumer slows the
reader, which slows the engine. When the consumer goes, the source is closed, which wakes the reader at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


async def pumped(
    pieces: Callable[[], Iterator[T]], close: Callable[[], None], *, name: str, ahead: int = 16
) -> AsyncGenerator[T, None]:
    """Iterate over `pieces()` in a thread; `close` is called once, when the consumer has had enough."""
    pump: _Pump[T] = _Pump(pieces, ahead)
    threading.Thread(target=pump.run, name=name, daemon=True).start()
    try:
        while (piece := await pump.queue.get()) is not None:
            pump.room.release()
            if isinstance(piece, _Failed):
                raise piece.error
            yield piece
    finally:
        pump.stopped = True
        pump.room.release()
        close()


class _Failed:
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Pump(Generic[T]):
    def __init__(self, pieces: Callable[[], Iterator[T]], ahead: int) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[T | _Failed | None] = asyncio.Queue()
        self.room = threading.Semaphore(ahead)
        self.stopped = False

    def run(self) -> None:
        last: _Failed | None = None
        try:
            for piece in self._pieces():
                self.room.acquire()
                if self.stopped:
                    return
                self._hand_over(piece)
        except Exception as error:
            last = _Failed(error)
        self._hand_over(last)

    def _hand_over(self, piece: T | _Failed | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self.queue.put_nowait, piece)
        except RuntimeError:
            self.stopped = True  # the loop has ended, and with it the consumer
