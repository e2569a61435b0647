"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli import completing, exits, text
from moorage.cli.output import Format

ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", help="Project, instead of $MOOR_PROJECT or the context's.")
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", autocompletion=completing.context, help="Context, instead of $MOOR_CONTEXT or the current."
    ),
]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Wait at most so long.")]
LabelsOption = Annotated[str | None, typer.Option("--labels", "-l", metavar="a=b,c!=d", help="Only with these labels.")]
FormatOption = Annotated[
    Format, typer.Option("--output", "-o", case_sensitive=False, help="json is exactly the REST object.")
]


def duration(words: str) -> float:
    """Seconds. Raises Failure."""
    try:
        return text.seconds(words)
    except ValueError as error:
        raise exits.usage(str(error)) from None
