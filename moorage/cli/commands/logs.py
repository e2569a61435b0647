"""moor logs"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import completing, exits, kinds, tasklogs, text
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.connect import follow as keep_following
from moorage.cli.exits import Failure
from moorage.cli.options import ContextOption, ProjectOption, duration
from moorage.cli.tasklogs import ENDED, Wanted
from moorage.client import ApiProblem, Client

if TYPE_CHECKING:
    from moorage.model.view import AllocationView

app = application()
_ID = re.compile(r"[0-9a-f]{1,16}")


@app.command(epilog=EPILOG)
def logs(
    ctx: typer.Context,
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB|ALLOCATION",
            autocompletion=completing.job,
            help="A job, job/group, job/group/index, or an allocation's id.",
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only of this task.")] = None,
    tail: Annotated[int, typer.Option("--tail", "-n", metavar="LINES", help="Only the last ones; -1: all.")] = -1,
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="Only of the last 5m, 1h …")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin lines with their time.")] = False,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Print what tasks wrote. Of a job: of all its allocations, each line with the name of its own.

    A task that was restarted is read from its newest start on; `-f` goes on over restarts and moves.
    """
    since_ms = text.now_ms() - int(duration(since) * 1000) if since else 0
    wanted = Wanted(task, follow, tail, timestamps, since_ms)
    kind, what = _split(name)
    run = keep_following if follow else call
    run(ctx, target_of(ctx, context, project), lambda client: _print(client, kind, what, wanted))


def _split(words: list[str]) -> tuple[kinds.Kind | None, str]:
    """The kind, where it is said, and what follows it: `hello`, `job/hello`, `job hello`, `alloc hello/web/0`."""
    first, *rest = words
    if len(rest) > 1:
        raise exits.usage(f"one job or allocation is meant, not {len(words)}: {' '.join(words)}")
    before, slash, after = first.partition("/")
    if rest:
        return _kind(first), rest[0]
    if slash and kinds.is_kind(before) and after:
        return _kind(before), after
    return None, first


def _kind(word: str) -> kinds.Kind:
    kind = kinds.kind_of(word)
    if kind not in (kinds.JOB, kinds.ALLOCATION):
        raise exits.usage(f"{kind.aliases[0]} write no logs", "`moor logs JOB` or `moor logs ALLOCATION`")
    return kind


async def _print(client: Client, kind: kinds.Kind | None, name: str, wanted: Wanted) -> None:
    job, *place = name.split("/")
    if kind is not kinds.ALLOCATION and not place:
        allocs = await client.list_allocations(job=job)
        if allocs or kind is kinds.JOB or not _ID.fullmatch(name) or await tasklogs.exists(client, name):
            await _print_job(client, job, allocs, [], wanted)
            return
    if len(place) == 1 and kind is not kinds.ALLOCATION:
        await _print_job(client, job, await client.list_allocations(job=job), place, wanted)
    elif wanted.follow and len(place) == 2:
        await kinds.allocation_id(client, name)  # a slot that does not exist is said so
        await tasklogs.follow(client, job, lambda alloc: alloc.name == name, wanted, prefixed=False)
    else:
        await _print_one(client, await _allocation(client, name), wanted)


async def _print_one(client: Client, alloc: AllocationView, wanted: Wanted) -> None:
    if wanted.follow and alloc.phase not in ENDED:
        await tasklogs.follow(client, alloc.job, lambda one: one.id == alloc.id, wanted, prefixed=False, once=True)
    elif failures := await tasklogs.print_all(client, alloc, wanted, prefixed=False):
        raise failures[0]


async def _allocation(client: Client, name: str) -> AllocationView:
    try:
        return await client.get_allocation(await kinds.allocation_id(client, name))
    except ApiProblem as error:
        if error.problem.status not in (400, 404):
            raise
        hint = "`moor get jobs` and `moor get allocations` list them"
        raise Failure(f"there is no job or allocation {name!r}", code=exits.NOT_FOUND, hint=hint) from None


async def _print_job(client: Client, job: str, allocs: list[AllocationView], group: list[str], wanted: Wanted) -> None:
    """Of all, or of those of one group."""
    if not allocs:
        await client.get_job(job)  # one that does not exist is said so
    mine = [alloc for alloc in allocs if group in ([], [alloc.group])]
    if allocs and not mine:
        groups = sorted({alloc.group for alloc in allocs})
        raise Failure(f"job {job} has no group {group[0]!r}", code=exits.NOT_FOUND, hint=text.guess(group[0], groups))
    if wanted.follow:
        await tasklogs.follow(client, job, lambda alloc: group in ([], [alloc.group]), wanted, prefixed=True)
        return
    if not mine:
        raise Failure(f"job {job} has no allocations yet", code=exits.NOT_FOUND, hint=f"`moor explain {job}` says why")
    await tasklogs.print_slots(client, mine, wanted)
