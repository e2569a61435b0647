"""moor logs"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from moorage.cli import exits, kinds, text
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, failure_of, target_of
from moorage.cli.exits import Failure
from moorage.cli.lines import Prefixed, colours
from moorage.cli.options import ContextOption, ProjectOption, duration
from moorage.cli.watching import states
from moorage.client import ApiProblem, Client, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from moorage.model.view import AllocationView

app = application()
_ID = re.compile(r"[0-9a-f]{1,16}")
ENDED = ("stopped", "failed")


class Wanted:
    """What of each stream."""

    def __init__(self, task: str | None, follow: bool, tail: int, timestamps: bool, since_ms: int) -> None:
        self.task = task
        self.follow = follow
        self.tail = tail
        self.timestamps = timestamps
        self.since_ms = since_ms


@app.command(epilog=EPILOG)
def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="JOB|ALLOCATION", help="A job, an id, or job/group/index.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only of this task.")] = None,
    tail: Annotated[int, typer.Option("--tail", "-n", metavar="LINES", help="Only the last ones; -1: all.")] = -1,
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="Only of the last 5m, 1h …")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin lines with their time.")] = False,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Print what tasks wrote. Of a job: of all its allocations, each line with the name of its own."""
    since_ms = text.now_ms() - int(duration(since) * 1000) if since else 0
    wanted = Wanted(task, follow, tail, timestamps, since_ms)
    call(ctx, target_of(ctx, context, project), lambda client: _print(client, name, wanted))


async def _print(client: Client, name: str, wanted: Wanted) -> None:
    job = name.removeprefix("job/")
    allocs = [] if "/" in job else await client.list_allocations(job=job)
    if allocs or job != name:
        await _print_job(client, job, allocs, wanted)
    elif "/" in name or (_ID.fullmatch(name) and not await _is_job(client, name)):
        alloc = await client.get_allocation(await kinds.allocation_id(client, name))
        streams = _streams(alloc, wanted.task)
        await _all(client, alloc, streams, wanted, prefixed=len(streams) > 1)
    else:
        await _print_job(client, job, allocs, wanted)


async def _is_job(client: Client, name: str) -> bool:
    try:
        await client.get_job(name)
    except ApiProblem as error:
        if error.problem.status != 404:
            raise
        return False
    return True


async def _print_job(client: Client, job: str, allocs: list[AllocationView], wanted: Wanted) -> None:
    if not allocs:
        await client.get_job(job)  # one that does not exist is said so
    if wanted.follow:
        await _follow_job(client, job, wanted)
        return
    live = [alloc for alloc in allocs if alloc.phase not in ENDED] or allocs
    if not live:
        raise Failure(f"job {job} has no allocations yet", code=exits.NOT_FOUND, hint=f"`moor explain {job}` says why")
    for alloc in sorted(live, key=lambda one: (one.group, one.index, one.attempt)):
        await _all(client, alloc, _streams(alloc, wanted.task), wanted, prefixed=True)


async def _follow_job(client: Client, job: str, wanted: Wanted) -> None:
    """Allocations that come later are followed as well."""
    found = cast(
        "AsyncGenerator[Mapping[str, AllocationView], None]",
        states(client.watch_allocations(job=job), lambda alloc: alloc.id),
    )
    begun: set[str] = set()
    async with asyncio.TaskGroup() as group, aclosing(found):
        async for allocs in found:
            for alloc in allocs.values():
                if alloc.phase == "running" and alloc.id not in begun:
                    begun.add(alloc.id)
                    streams = _streams(alloc, wanted.task)
                    group.create_task(_all(client, alloc, streams, wanted, prefixed=True), name=f"logs-{alloc.id}")


def _streams(alloc: AllocationView, task: str | None) -> list[str]:
    """Names of tasks; empty for the only one, where the node has not told any yet."""
    names = [one.name for one in alloc.tasks]
    if task is None:
        return names or [""]
    if names and task not in names:
        raise Failure(
            f"allocation {alloc.name} has no task {task!r}", code=exits.NOT_FOUND, hint=text.guess(task, names)
        )
    return [task]


async def _all(client: Client, alloc: AllocationView, tasks: list[str], wanted: Wanted, *, prefixed: bool) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            label = f"{alloc.name}{f' {task}' if len(tasks) > 1 else ''}" if prefixed else ""
            group.create_task(_one(client, alloc, task, wanted, label), name=f"logs-{alloc.id}-{task}")


async def _one(client: Client, alloc: AllocationView, task: str, wanted: Wanted, label: str) -> None:
    written = Prefixed(label, colours(sys.stdout))
    try:
        async for channel, data in client.logs(
            alloc.id,
            task=task,
            follow=wanted.follow,
            tail=wanted.tail,
            timestamps=wanted.timestamps,
            since_ms=wanted.since_ms,
        ):
            written.write(channel, data)
    except (ApiProblem, Unreachable) as error:
        failure = failure_of(error, f"logs of {alloc.name}")
        if not label:
            raise failure from error
        # One of many: the others are worth reading all the same.
        sys.stderr.write(f"moor: {failure.message}\n")
    finally:
        written.close()
