"""The typer application: a group whose commands are imported only when asked for.

typer's own error boxes and tracebacks are switched off: moorage.cli.main reports everything in one way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import TyperGroup

from moorage.cli import exits
from moorage.cli.main import COMMANDS, plugins
from moorage.cli.target import Surroundings
from moorage.cli.versions import release

EPILOG = exits.TABLE
COMPLETE = "_MOOR_COMPLETE"


class Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *plugins()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            return load(cmd_name)
        return _named(cmd_name) if cmd_name in plugins() else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise exits.usage(f"there is no command {name!r}", _guess(name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def application(**options: Any) -> typer.Typer:
    """An application of one command, or of a group of them, as all of ours are made."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


@cache
def load(name: str) -> Any:
    module, summary = COMMANDS[name]
    command = typer.main.get_command(import_module(f"moorage.cli.commands.{module}").app)
    command.name, command.short_help = name, summary
    return command


def root() -> Any:
    app = application(cls=Commands, no_args_is_help=True, epilog=EPILOG, help="Run containers and virtual machines.")

    @app.callback()
    def callback(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_version, help="Tell the version of this command.")
        ] = False,
    ) -> None:
        pass

    return typer.main.get_command(app)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"moor {release()}\n")
        raise typer.Exit


def invoke(arguments: list[str], environ: Mapping[str, str], transport: Any) -> int:
    """Run one command; returns its exit code. Raises Failure and whatever else a command raises."""
    stdout = sys.stdout
    if COMPLETE in os.environ:  # the shell asks what may come next; there only the process's environment counts
        completion_init()
    try:
        answer = root().main(
            arguments,
            prog_name="moor",
            complete_var=COMPLETE,
            standalone_mode=False,
            obj=Surroundings(environ, transport),
        )
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout  # typer wraps it when whoever read from it has gone
        raise BrokenPipeError from None
    if answer == exits.INTERRUPTED:  # that is what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return answer if isinstance(answer, int) else exits.OK


def _usage(error: typer.TyperException) -> int:
    """In one line, as everything else; a group without a command gets its help."""
    text, context = error.format_message().replace("Value error, ", "").strip(), getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" or not text or context is None:
        sys.stderr.write(text + "\n")
        return exits.USAGE
    sentence = " ".join(text.split()).rstrip(".")
    raise exits.usage(sentence[0].lower() + sentence[1:], f"see `{context.command_path} --help`")


def _named(name: str) -> Any:
    """A stand-in for a command of another distribution, for the list of commands: main runs the real one."""
    app = application()
    app.command(name, help=f"The {name} daemon.")(lambda: None)
    command = typer.main.get_command(app)
    command.name = name
    return command


def _guess(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `moor {near[0]}`?" if near else "see `moor --help`"
