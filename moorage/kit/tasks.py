"""Every task has an owner, a name and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class Owner:
    """Owns tasks that come and go: none is lost from sight, an unexpected failure is logged with its name.

    Used where a TaskGroup's "one fails, all end" is wrong: one allocation's trouble must not end the others.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel all and wait for their end."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)


class Blocking:
    """Threads of its own for one blocking SDK, so that a hung one does not stall another."""

    def __init__(self, name: str, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def forever(turn: Callable[[], Awaitable[None]], *, name: str, pause_s: float = 1.0) -> None:
    """Repeat one turn of a loop; a turn that fails is logged and tried again after a pause."""
    while True:
        try:
            await turn()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("loop turn failed", loop=name, error=repr(error))
            await asyncio.sleep(pause_s)
