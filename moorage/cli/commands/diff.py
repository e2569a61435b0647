"""moor diff"""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import changes, exits, files
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.options import ContextOption, ProjectOption

app = application()


@app.command(epilog=EPILOG)
def diff(
    ctx: typer.Context,
    file: files.FilesOption = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="…", hidden=True)] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Show what `apply` would change. Nothing is written. Exit code 0: nothing, 1: something, above 1: an error."""
    documents = files.read(files.named(file, more, "diff"))
    if call(ctx, target_of(ctx, context, project), lambda client: changes.show(client, documents)):
        raise typer.Exit(exits.DIFFERENT)
