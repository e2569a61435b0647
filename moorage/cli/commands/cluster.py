"""moor cluster"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import exits, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.exits import Failure
from moorage.cli.output import Format
from moorage.client import Client

if TYPE_CHECKING:
    from moorage.model.view import ClusterView
from moorage.cli.options import ContextOption, FormatOption

app = application(help="Show the cluster; accept a restored store.", no_args_is_help=True)


@app.command(epilog=EPILOG, short_help="Tell who leads, and whether the store is trusted.")
def status(ctx: typer.Context, format: FormatOption = Format.table, context: ContextOption = None) -> None:
    """Tell which cluster this is, who leads it, and whether its store is trusted."""

    async def work(client: Client) -> None:
        view = await client.cluster()
        if format.for_people:
            _show(view)
        else:
            output.print_data(view.model_dump(mode="json"), format)

    call(ctx, target_of(ctx, context), work)


@app.command("accept-restore", epilog=EPILOG, short_help="Take a restored store for the truth.")
def accept_restore(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Also where the store is not suspected.")] = False,
    context: ContextOption = None,
) -> None:
    """Take a store that was restored from a backup for the truth.

    A new generation begins. What agents run and the restored store knows goes on; what it does not know is listed by
    `moor describe node`, and ends after the orphan grace.
    """

    async def work(client: Client) -> None:
        if not force and not (await client.cluster()).restore_suspected:
            hint = "`--force` begins a new generation all the same, for agents not heard since a restore"
            raise Failure("the store is trusted: there is no restore to accept", code=exits.CONFLICT, hint=hint)
        view = await client.accept_restore()
        output.say(f"the restored store is accepted: generation {view.generation} begins")

    call(ctx, target_of(ctx, context), work)


def _show(view: ClusterView) -> None:
    output.print_fields(
        {
            "Cluster": view.id,
            "Generation": str(view.generation),
            "Leader": f"{view.leader} at {view.leader_url}" if view.leader else "none at present",
            "Nodes": f"{view.nodes_ready} of {view.nodes} ready",
            "Revision": str(view.revision),
            "Restore suspected": view.restore_suspected,
            "Trouble": "; ".join(view.trouble),
        }
    )
    if view.restore_suspected:
        output.say()
        output.say("Agents get nothing new until `moor cluster accept-restore`; what runs goes on.")
