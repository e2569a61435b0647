"""moor context"""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import completing, contexts, exits, output
from moorage.cli.app import EPILOG, application
from moorage.cli.commands.login import login
from moorage.cli.exits import Failure
from moorage.cli.target import Surroundings

app = application(help="List, choose, add and remove contexts.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completing.context)]
app.command("add", epilog=EPILOG, help="The same as `moor login`.")(login)


@app.command("list", epilog=EPILOG)
def list_contexts(ctx: typer.Context) -> None:
    """List contexts; the current one is marked."""
    surroundings: Surroundings = ctx.obj
    known = contexts.load(surroundings.environ)
    if not known.named:
        output.say("no contexts; `moor login` or `./dev up` makes one")
        return
    rows = [
        ["*" if name == known.current else "", name, one.url, one.project] for name, one in sorted(known.named.items())
    ]
    output.print_table(["CURRENT", "NAME", "URL", "PROJECT"], rows)


@app.command(epilog=EPILOG)
def use(ctx: typer.Context, name: Name) -> None:
    """Use a context from now on."""
    surroundings: Surroundings = ctx.obj
    contexts.use(name, surroundings.environ)
    output.say(f"context {name} is used from now on")


@app.command(epilog=EPILOG)
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a context and its token from this machine."""
    surroundings: Surroundings = ctx.obj
    if not contexts.remove(name, surroundings.environ):
        raise Failure(f"there is no context {name!r}", code=exits.NOT_FOUND, hint="`moor context list` lists them")
    output.say(f"context {name} is removed")
