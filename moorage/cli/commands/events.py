"""moor events"""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import kinds, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.connect import follow as keep_following
from moorage.cli.kinds import EVENT, Filter
from moorage.cli.live import show_live
from moorage.cli.options import ContextOption, FormatOption, ProjectOption
from moorage.cli.output import Format
from moorage.cli.text import now_ms
from moorage.client import Client

app = application()


@app.command(epilog=EPILOG)
def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and tell new ones.")] = False,
    object: Annotated[str | None, typer.Option("--object", metavar="job/NAME", help="Only of this object.")] = None,
    format: FormatOption = Format.table,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Tell what happened, oldest first: of all projects that the token may see, unless one is named."""
    wanted = Filter(project=project, object=object)

    async def work(client: Client) -> None:
        if follow:
            await show_live(client, EVENT, wanted, None, format)
            return
        found = await kinds.fetch(client, EVENT, wanted)
        if not format.for_people:
            output.print_data(kinds.page(found), format)
        elif found:
            now, wide = now_ms(), format is Format.wide
            output.print_table(EVENT.titles(wide), [EVENT.row(event, now, wide) for event in found])
        else:
            output.say("no events")

    (keep_following if follow else call)(ctx, target_of(ctx, context, project), work)
