"""moor scale"""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import completing, exits, output, rollout
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, patiently, target_of
from moorage.cli.exits import Failure
from moorage.cli.options import ContextOption, DetachOption, ProjectOption, TimeoutOption, duration
from moorage.client import Client

app = application()


# An unknown option may be a negative number, which deserves an answer of its own.
@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True})
def scale(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB[/GROUP][=N]", autocompletion=completing.job)],
    count: Annotated[str | None, typer.Argument(metavar="N")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="Needed where a job has several.")] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
    detach: DetachOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Change how many instances of a group run, and follow: `moor scale hello 5`, `moor scale hello/web=5`."""
    name, named, number = parse(job, count, group)
    limit_s = duration(timeout)

    async def work(client: Client) -> None:
        chosen = named or await _only_group(client, name)
        scaled = await patiently(lambda: client.scale_job(name, chosen, number))
        output.say(f"job {name}: group {chosen} shall have {number}")
        if not detach:
            await rollout.follow(client, [scaled], limit_s)

    try:
        call(ctx, target_of(ctx, context, project), work)
    except KeyboardInterrupt:
        raise Failure(rollout.GOES_ON, code=exits.INTERRUPTED) from None


def parse(word: str, count: str | None, group: str | None) -> tuple[str, str | None, int]:
    """Job, group if one is named, count. Raises Failure."""
    left, equals, right = word.removeprefix("job/").partition("=")
    name, slash, inner = left.partition("/")
    if (equals and count is not None) or (slash and group is not None):
        raise exits.usage(f"{word!r} says it already: give each thing once")
    return name, inner or group, _number(right if equals else count, left)


def _number(word: str | None, job: str) -> int:
    like = f"like `moor scale {job} 3`"
    if word is None:
        raise exits.usage("how many? A number from 0 on is needed", like)
    if word.isdecimal():
        return int(word)
    if word.startswith("-") and not word[1:].isdecimal():
        raise exits.usage(f"no such option: {word}", "see `moor scale --help`")
    raise exits.usage(f"{word!r} is not a number of instances: it is a whole one from 0 on", like)


async def _only_group(client: Client, name: str) -> str:
    groups = [group.name for group in (await client.get_job(name)).status.groups]
    if len(groups) != 1:
        hint = f"it has: {', '.join(groups)}; like `moor scale {name}/{groups[0]}=3`"
        raise exits.usage(f"which group of job {name}?", hint)
    return groups[0]
