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
def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL")]) -> None:
    """Print the completion script of a shell.

    bash: `source <(moor completion bash)` in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish: `moor
    completion fish > ~/.config/fish/completions/moor.fish`.
    """
    output.say(get_completion_script(prog_name="moor", complete_var=COMPLETE, shell=shell.value))
