"""moor completion"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from moorage.cli import output
from moorage.cli.app import COMPLETE, application

app = application()


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print the completion script: `moor completion bash > /etc/bash_completion.d/moor`."""
    output.say(get_completion_script(prog_name="moor", complete_var=COMPLETE, shell=shell.value))
