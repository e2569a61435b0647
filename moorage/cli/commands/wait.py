"""moor wait"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moorage.cli import completing, exits, kinds, output, text
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.exits import Failure
from moorage.cli.kinds import Filter, Kind
from moorage.cli.live import chosen
from moorage.cli.options import ContextOption, ProjectOption, TimeoutOption, duration
from moorage.cli.watching import states
from moorage.client import Client

if TYPE_CHECKING:
    pass

app = application()
Condition = Callable[[Any], bool]  # of the object, or of None where there is none

ASK_AGAIN_S = 0.5


def _phase(word: str) -> Condition:
    return lambda view: view is not None and view.phase == word


def _job_phase(word: str) -> Condition:
    return lambda view: view is not None and view.status.phase == word


def _gone(view: Any) -> bool:
    return view is None


CONDITIONS: Mapping[str, Mapping[str, Condition]] = {
    "job": {
        **{word: _job_phase(word) for word in ("running", "pending", "deploying", "degraded", "deleting")},
        "healthy": _job_phase("running"),
        "deleted": _gone,
    },
    "allocation": {
        **{word: _phase(word) for word in ("running", "pending", "preparing", "stopping", "stopped", "failed", "lost")},
        "healthy": lambda view: view is not None and view.health == "healthy",
        "unhealthy": lambda view: view is not None and view.health == "unhealthy",
        "deleted": _gone,
    },
    "node": {
        "ready": _phase("ready"),
        "lost": _phase("lost"),
        "cordoned": lambda view: view is not None and view.cordoned,
        "schedulable": lambda view: view is not None and view.schedulable,
        "drained": lambda view: view is not None and view.draining and not view.allocations,
        "deleted": _gone,
        "forgotten": _gone,
    },
}


@app.command(epilog=EPILOG)
def wait(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND/NAME", autocompletion=completing.kind)],
    name: Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=completing.name)] = None,
    condition: Annotated[
        str,
        typer.Option(
            "--for", metavar="STATE", autocompletion=completing.state, help="running, deleted, ready, drained …"
        ),
    ] = "",
    timeout: TimeoutOption = "5m",
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Wait until one thing is as asked; what is not there yet is waited for. Exit code 8 when the time is up.

    Jobs: running, healthy, pending, deploying, degraded, deleting, deleted. Nodes: ready, lost, cordoned,
    schedulable, drained, forgotten. Allocations: running, healthy, unhealthy, stopped, failed, lost, deleted …
    """
    what, one = kinds.split(kind, name)
    if one is None:
        raise exits.usage(f"which {what.name}?", f"like `moor wait {what.name}/NAME --for …`")
    holds, limit_s = _condition(what, condition), duration(timeout)

    async def work(client: Client) -> None:
        seen: list[Any] = [None]
        try:
            async with asyncio.timeout(limit_s):
                await _until(client, what, one, holds, seen)
        except TimeoutError:
            state = _state(what, seen[0])
            raise Failure(f"the time is up: {what.name} {one} is {state}", code=exits.TIMEOUT) from None

    call(ctx, target_of(ctx, context, project), work)
    output.say(f"{what.name} {one} is {condition}")


def _condition(kind: Kind, word: str) -> Condition:
    known = CONDITIONS.get(kind.name)
    if known is None:
        raise exits.usage("events are not waited for", "`moor events -f` tells them as they happen")
    if word not in known:
        article = "an" if kind.name[0] in "aeiou" else "a"
        if not word:
            raise exits.usage("wait for what?", f"--for STATE; {article} {kind.name} can be: {', '.join(known)}")
        raise exits.usage(f"{article} {kind.name} is never {word!r}", text.guess(word, list(known)))
    return known[word]


async def _until(client: Client, kind: Kind, name: str, holds: Condition, seen: list[Any]) -> None:
    # A node is not told again for each allocation that comes or goes: whether it is drained has to be asked.
    if holds is CONDITIONS["node"]["drained"]:
        await _ask_until(client, name, holds, seen)
        return
    async with aclosing(states(kinds.watch(client, kind, Filter()), kind.key)) as found:
        async for objects in found:
            seen[0] = next((view for view in objects.values() if chosen(kind, view, name)), None)
            if holds(seen[0]):
                return


async def _ask_until(client: Client, node: str, holds: Condition, seen: list[Any]) -> None:
    while True:
        seen[0] = await client.get_node(node)
        if holds(seen[0]):
            return
        await asyncio.sleep(ASK_AGAIN_S)


def _state(kind: Kind, view: Any) -> str:
    if view is None:
        return "not there"
    if kind is kinds.JOB:
        return f"{view.status.phase}{f': {view.status.message}' if view.status.message else ''}"
    if kind is kinds.NODE:
        return f"{kinds.node_state(view)}, {text.plural(view.allocations, 'allocation')} on it"
    return f"{view.phase}, {view.health}{f': {view.message}' if view.message else ''}"
