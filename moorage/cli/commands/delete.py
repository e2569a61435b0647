"""moor delete"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import completing, exits, files, kinds, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, failure_of, patiently, target_of
from moorage.cli.exits import Failure
from moorage.cli.options import ContextOption, DetachOption, ProjectOption, TimeoutOption, duration
from moorage.cli.rollout import Progress
from moorage.cli.watching import states
from moorage.client import ApiProblem, Client

if TYPE_CHECKING:
    from moorage.model.view import JobView

app = application()
GOES_ON = "interrupted; the deletion goes on on the server: `moor get jobs -w` follows it"


@app.command(epilog=EPILOG)
def delete(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", autocompletion=completing.kind)] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", autocompletion=completing.name)] = None,
    file: Annotated[list[str] | None, typer.Option("--file", "-f", metavar="FILE|DIR|-")] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
    detach: DetachOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Stop jobs and forget them; wait until everything of them has ended.

    `delete allocation ID` stops this one attempt; its place is filled again.
    """
    limit_s = duration(timeout)
    what, chosen = _chosen(kind, names or [], file or [])

    async def work(client: Client) -> None:
        if what is kinds.ALLOCATION:
            await _stop(client, chosen)
            return
        doomed, missing = await _delete(client, chosen)
        if doomed and not detach:
            await _until_gone(client, doomed, limit_s)
        if missing:
            hint = f"{'the others are deleted; ' if doomed else ''}`moor get jobs` lists what there is"
            raise Failure(f"there is no job {', '.join(map(repr, missing))}", code=exits.NOT_FOUND, hint=hint)

    try:
        call(ctx, target_of(ctx, context, project), work)
    except KeyboardInterrupt:
        raise Failure(GOES_ON, code=exits.INTERRUPTED) from None


def _chosen(kind: str | None, names: list[str], file: list[str]) -> tuple[kinds.Kind, list[str]]:
    if bool(kind) == bool(file):
        raise exits.usage("give a kind and names, or -f FILE", "like `moor delete job hello`")
    if kind is None:
        return kinds.JOB, [document.name for document in files.read(file)]
    what, first = kinds.split(kind, None)
    chosen = ([first] if first else []) + names
    if what is kinds.NODE:
        raise exits.usage("nodes are not deleted", "`moor node forget NAME` forgets one that is lost")
    if what is kinds.EVENT:
        raise exits.usage("events are not deleted: they expire")
    if not chosen:
        raise exits.usage(f"which {what.name}?", f"like `moor delete {what.name} NAME`")
    return what, chosen


async def _stop(client: Client, names: list[str]) -> None:
    for name in names:
        stopped = await client.stop_allocation(await kinds.allocation_id(client, name))
        output.say(f"allocation {stopped.id} ({stopped.name}) is being stopped; its place is filled again")


async def _delete(client: Client, names: list[str]) -> tuple[dict[str, JobView], list[str]]:
    """What is being deleted, and what of it is not there: that does not save the others."""
    doomed, missing = {}, []
    for name in dict.fromkeys(names):
        try:
            doomed[name] = await patiently(partial(client.delete_job, name))
        except ApiProblem as error:
            if error.problem.status != 404:
                raise failure_of(error, f"job {name}") from error
            missing.append(name)
        else:
            output.say(f"job {name} is being deleted")
    return doomed, missing


async def _until_gone(client: Client, doomed: dict[str, JobView], limit_s: float) -> None:
    left = dict(doomed)
    with Progress() as shown:
        try:
            async with asyncio.timeout(limit_s):
                await _watch(client, left, shown)
        except TimeoutError:
            raise Failure(
                f"the time is up: not yet gone: {', '.join(left)}",
                code=exits.TIMEOUT,
                hint="`moor get allocations` shows what still runs; a lost node has to come back or be forgotten",
            ) from None
    for name in doomed:
        output.say(f"job {name} is gone after {shown.elapsed_s:.1f} s")


async def _watch(client: Client, left: dict[str, JobView], shown: Progress) -> None:
    async with aclosing(states(client.watch_jobs(), lambda job: job.name)) as found:
        async for jobs in found:
            for name in list(left):
                job = jobs.get(name)
                if job is None or job.uid != left[name].uid:
                    del left[name]
                    continue
                running = sum(group.running for group in job.status.groups)
                shown.show({name: f"{job.status.phase}, {running} still running"})
            if not left:
                return
