"""moor node"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import completing, exits, output, text
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.exits import Failure
from moorage.cli.options import ContextOption, DetachOption, TimeoutOption, duration
from moorage.cli.rollout import Progress
from moorage.client import ApiProblem, Client

if TYPE_CHECKING:
    from moorage.model.view import NodeView

app = application(help="Cordon, uncordon, drain or forget nodes. `moor get nodes` lists them.", no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(metavar="NODE", autocompletion=completing.node, help="Names or ids.")]
ASK_AGAIN_S = 0.5


@app.command(epilog=EPILOG)
def cordon(ctx: typer.Context, nodes: Names, context: ContextOption = None) -> None:
    """Place nothing new on nodes; what runs there stays."""
    _patch(ctx, context, nodes, "is cordoned: nothing new is placed there", cordoned=True)


@app.command(epilog=EPILOG)
def uncordon(ctx: typer.Context, nodes: Names, context: ContextOption = None) -> None:
    """Let nodes take work again; ends a drain, too."""
    _patch(ctx, context, nodes, "takes work again", cordoned=False, draining=False)


@app.command(epilog=EPILOG, short_help="Move everything off nodes, and wait until they are empty.")
def drain(
    ctx: typer.Context,
    nodes: Names,
    detach: DetachOption = False,
    timeout: TimeoutOption = "30m",
    context: ContextOption = None,
) -> None:
    """Move everything off nodes, a few instances at a time, and wait until they are empty."""
    limit_s = duration(timeout)

    async def work(client: Client) -> None:
        for name in nodes:
            await client.patch_node(name, draining=True)
            output.say(f"node {name} is being drained")
        if not detach:
            await _until_empty(client, nodes, limit_s)

    try:
        call(ctx, target_of(ctx, context), work)
    except KeyboardInterrupt:
        message = "interrupted; the drain goes on on the server: `moor node uncordon` ends it"
        raise Failure(message, code=exits.INTERRUPTED) from None


@app.command(epilog=EPILOG, short_help="Forget nodes that are lost for good.")
def forget(ctx: typer.Context, nodes: Names, detach: DetachOption = False, context: ContextOption = None) -> None:
    """Forget nodes that are lost for good, and what ran there; their instances are placed elsewhere."""

    async def work(client: Client) -> None:
        for name in nodes:
            forgotten = await client.forget_node(name)
            if not detach:
                await _until_forgotten(client, forgotten)
            output.say(f"node {name} is {'being ' if detach else ''}forgotten")

    call(ctx, target_of(ctx, context), work)


def _patch(
    ctx: typer.Context,
    context: str | None,
    nodes: list[str],
    words: str,
    *,
    cordoned: bool | None = None,
    draining: bool | None = None,
) -> None:
    async def work(client: Client) -> None:
        for name in nodes:
            await client.patch_node(name, cordoned=cordoned, draining=draining)
            output.say(f"node {name} {words}")

    call(ctx, target_of(ctx, context), work)


async def _until_empty(client: Client, nodes: list[str], limit_s: float) -> None:
    left: dict[str, int] = {}
    with Progress() as shown:
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    left = {name: (await client.get_node(name)).allocations for name in nodes}
                    if not any(left.values()):
                        break
                    shown.show({name: f"{text.plural(count, 'allocation')} left" for name, count in left.items()})
                    await asyncio.sleep(ASK_AGAIN_S)
        except TimeoutError:
            rest = ", ".join(f"{name} {text.plural(count, 'allocation')}" for name, count in left.items() if count)
            hint = "the drain goes on; `moor get allocations` and `moor explain JOB` say what waits and why"
            raise Failure(f"the time is up: still there: {rest}", code=exits.TIMEOUT, hint=hint) from None
    for name in nodes:
        again = f"`moor node uncordon {name}` gives it work again"
        output.say(f"node {name} is drained after {shown.elapsed_s:.1f} s; {again}")


async def _until_forgotten(client: Client, node: NodeView, tries: int = 60) -> None:
    for _ in range(tries):
        try:
            await client.get_node(node.id)
        except ApiProblem as error:
            if error.problem.status == 404:
                return
            raise
        await asyncio.sleep(ASK_AGAIN_S)
    raise Failure(f"node {node.name} is not forgotten yet", code=exits.TIMEOUT, hint="`moor events -f` tells more")
