"""moor login"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from moorage.cli import contexts, exits, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call
from moorage.cli.target import Surroundings, Target

app = application()

UrlOption = Annotated[str, typer.Option("--url", metavar="URL", help="Of the controller's API.")]
TokenOption = Annotated[
    str | None, typer.Option("--token", help="Better left out: read from $MOOR_TOKEN, standard input, or asked for.")
]
ProjectOption = Annotated[str, typer.Option("--project", "-p", help="Project of commands that name none.")]


@app.command(epilog=EPILOG)
def login(
    ctx: typer.Context,
    url: UrlOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the context.")] = "default",
    token: TokenOption = None,
    project: ProjectOption = contexts.DEFAULT_PROJECT,
) -> None:
    """Save a controller's URL and token under a name, and use it from now on. The token is tried first."""
    surroundings: Surroundings = ctx.obj
    if not url.startswith(("http://", "https://")):
        raise exits.usage(f"{url!r} is not a URL of an API", "like https://controller.example:7070")
    secret = token or surroundings.environ.get("MOOR_TOKEN") or _ask_token()
    answer = call(ctx, Target(url.rstrip("/"), secret, project, name), lambda client: client.version())
    contexts.write(name, url=url, token=secret, project=project, make_current=True, environ=surroundings.environ)
    output.say(f"context {name} is used from now on: {url}, controller {answer.version}")


def _ask_token() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Token", hide_input=True)).strip()
    given = sys.stdin.readline().strip()
    if not given:
        raise exits.usage("a token is needed", "in $MOOR_TOKEN, on standard input, or by --token")
    return given
