"""What tasks wrote, of one allocation or of many, once or for as long as more comes.

Following watches the allocations: the stream of a container ends with it, and the next container of the same task (a
restart) or of the same slot (another attempt) is taken up when the watch tells of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moorage.cli import exits, text
from moorage.cli.connect import failure_of
from moorage.cli.exits import Failure
from moorage.cli.lines import Prefixed, colours
from moorage.cli.watching import states
from moorage.client import ApiProblem, Client, Unreachable

if TYPE_CHECKING:
    from moorage.model.view import AllocationView, TaskView

ENDED = ("stopped", "failed")
Chosen = Callable[["AllocationView"], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of each stream."""

    task: str | None
    follow: bool
    tail: int
    timestamps: bool
    since_ms: int


def in_order(allocs: Iterable[AllocationView]) -> list[AllocationView]:
    return sorted(allocs, key=lambda one: (one.group, one.index, one.attempt))


async def print_all(client: Client, alloc: AllocationView, wanted: Wanted, *, prefixed: bool) -> list[Failure]:
    """Everything that the tasks of one allocation have written. Returns what could not be read."""
    names = _names(alloc, wanted.task)
    async with asyncio.TaskGroup() as group:
        printing = [
            group.create_task(
                _print(client, alloc, name, wanted, _label(alloc, name, len(names), prefixed)),
                name=f"logs-{alloc.id}-{name}",
            )
            for name in names
        ]
    return [failure for task in printing if (failure := task.result())]


async def print_slots(client: Client, allocs: Iterable[AllocationView], wanted: Wanted) -> None:
    """Of each slot what runs there now; of one that is between two starts, or over, what it wrote last."""
    slots: dict[tuple[str, int], list[AllocationView]] = {}
    for alloc in in_order(allocs):
        slots.setdefault((alloc.group, alloc.index), []).append(alloc)
    for attempts in slots.values():
        await _print_slot(client, attempts, wanted)


async def _print_slot(client: Client, attempts: list[AllocationView], wanted: Wanted) -> None:
    live = [alloc for alloc in attempts if alloc.phase not in ENDED]
    ended = [alloc for alloc in attempts if alloc.phase in ENDED][-1:]
    failures = [failure for alloc in live or ended for failure in await print_all(client, alloc, wanted, prefixed=True)]
    if failures and live and ended and not await print_all(client, ended[0], wanted, prefixed=True):
        return
    for failure in failures:
        # One of many: the others are worth reading all the same.
        sys.stderr.write(f"moor: {failure.message}\n")


async def follow(
    client: Client, job: str, chosen: Chosen, wanted: Wanted, *, prefixed: bool, once: bool = False
) -> None:
    """Until the job is gone; with `once` until all that is chosen has ended."""
    begun: set[tuple[str, str, str]] = set()
    first = True
    async with asyncio.TaskGroup() as group, _allocations(client, job) as found:
        async for allocs in found:
            for alloc in filter(chosen, in_order(allocs.values())):
                if first and alloc.phase in ENDED:
                    begun.update((alloc.id, task.name, task.container) for task in alloc.tasks)
                for task in _written(alloc, wanted.task):
                    key = (alloc.id, task.name, task.container)
                    if key in begun:
                        continue
                    again = any(known[:2] == key[:2] for known in begun)
                    begun.add(key)
                    label = _label(alloc, task.name, len(alloc.tasks), prefixed)
                    # Of what is new all is wanted.
                    how = wanted if first and not again else replace(wanted, tail=-1, since_ms=0)
                    group.create_task(_follow_one(client, alloc, task.name, how, label), name=f"logs-{label}")
            if once and all(alloc.phase in ENDED for alloc in filter(chosen, allocs.values())):
                return
            if begun and not allocs and not await exists(client, job):
                return
            first = False


def _allocations(client: Client, job: str) -> aclosing[AsyncGenerator[Mapping[str, AllocationView], None]]:
    return aclosing(states(client.watch_allocations(job=job), lambda alloc: alloc.id))


def _written(alloc: AllocationView, task: str | None) -> list[TaskView]:
    """Tasks that have a container to read from."""
    _names(alloc, task)
    found = [one for one in alloc.tasks if task in (None, one.name)]
    if alloc.phase == "stopped":
        return []  # its containers are removed, or about to be
    return [one for one in found if one.container or alloc.phase == "running"]


async def exists(client: Client, job: str) -> bool:
    try:
        await client.get_job(job)
    except ApiProblem as error:
        if error.problem.status != 404:
            raise
        return False
    return True


def _names(alloc: AllocationView, task: str | None) -> list[str]:
    """Names of tasks; empty for the only one, where the node has not told any yet."""
    names = [one.name for one in alloc.tasks]
    if task is None:
        return names or [""]
    if names and task not in names:
        raise Failure(
            f"allocation {alloc.name} has no task {task!r}", code=exits.NOT_FOUND, hint=text.guess(task, names)
        )
    return [task]


def _label(alloc: AllocationView, task: str, tasks: int, prefixed: bool) -> str:
    return f"{alloc.name}{f' {task}' if tasks > 1 else ''}" if prefixed or tasks > 1 else ""


async def _follow_one(client: Client, alloc: AllocationView, task: str, wanted: Wanted, label: str) -> None:
    if failure := await _print(client, alloc, task, wanted, label):
        if not label:
            raise failure
        sys.stderr.write(f"moor: {failure.message}\n")


async def _print(client: Client, alloc: AllocationView, task: str, wanted: Wanted, label: str) -> Failure | None:
    written = Prefixed(label, colours(sys.stdout))
    try:
        stream = client.logs(
            alloc.id,
            task=task,
            follow=wanted.follow,
            tail=wanted.tail,
            timestamps=wanted.timestamps,
            since_ms=wanted.since_ms,
        )
        async with aclosing(stream):
            async for channel, data in stream:
                written.write(channel, data)
    except (ApiProblem, Unreachable) as error:
        return failure_of(error, f"logs of {alloc.name}")
    finally:
        written.close()
    return None
