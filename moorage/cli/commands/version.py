"""moor version"""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import output, versions
from moorage.cli.app import application
from moorage.cli.options import ContextOption, FormatOption
from moorage.cli.output import Format

app = application()


@app.command()
def version(
    ctx: typer.Context,
    client: Annotated[bool, typer.Option("--client", help="Only this command's; asks nobody.")] = False,
    format: FormatOption = Format.table,
    context: ContextOption = None,
) -> None:
    """Tell the versions of this command and of the controller; answers without a controller, too."""
    if format.for_people:
        versions.show(ctx.obj, context, ask=not client)
        return
    server = None if client else versions.controller(ctx.obj, context)[0]
    output.print_data({"client": versions.release(), "server": server}, format)
