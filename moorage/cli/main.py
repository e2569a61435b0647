"""Entry of `moor`: daemons start without the command's own weight, everything else goes through typer.

A first word that is no command of ours is looked for among the entry points of the group `moorage.commands`: that is
how `moor controller` and `moor agent` come about without `moorage` importing anything above itself. They get the rest
of the arguments and return the exit code; typer, rich and httpx stay out of their memory.

Whatever ends a command early becomes one sentence on stderr and an exit code (moorage.cli.exits). MOOR_DEBUG=1 shows
the traceback of a fault.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from moorage.cli import exits
from moorage.cli.exits import Failure

GROUP = "moorage.commands"
Plugin = Callable[[list[str]], int]

# name -> (module in moorage.cli.commands, what it does)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "apply": ("apply", "Make what files say, and follow until it runs."),
    "diff": ("diff", "Show what apply would change; exit code 1 where it would."),
    "delete": ("delete", "Stop and forget, and wait until it is gone."),
    "get": ("get", "List jobs, allocations, nodes, events; or show one."),
    "describe": ("describe", "Tell all about one job, allocation or node."),
    "logs": ("logs", "Print what the tasks of a job or an allocation wrote."),
    "events": ("events", "Tell what happened."),
    "wait": ("wait", "Wait until something is as asked."),
    "scale": ("scale", "Change how many of a group run, and follow."),
    "explain": ("explain", "Tell why each instance is where it is, or waits."),
    "node": ("node", "Cordon, uncordon, drain or forget nodes."),
    "cluster": ("cluster", "Show the cluster; accept a restored store."),
    "version": ("version", "Tell the versions of the command and the controller."),
    "login": ("login", "Save a controller's URL and token as a context."),
    "context": ("context", "List, choose, add and remove contexts."),
    "completion": ("completion", "Print the completion script for a shell."),
}


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str], environ: Mapping[str, str] | None = None, transport: Any = None) -> int:
    """One command from arguments to exit code. `transport` replaces the network, for tests."""
    environ = os.environ if environ is None else environ
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            plugin = _plugin(arguments[0])
            if plugin is not None:
                return plugin(arguments[1:])
        code = _own(arguments, environ, transport)
        sys.stdout.flush()
        return code
    except Failure as failure:
        return report(failure)
    except KeyboardInterrupt:
        return report(Failure("interrupted", code=exits.INTERRUPTED))
    except BrokenPipeError:
        # Whoever read has seen enough (`moor events | head`); the interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except Exception as error:
        if environ.get("MOOR_DEBUG"):
            raise
        text = str(error) or type(error).__name__
        return report(Failure(f"fault in moor itself: {text}", code=exits.FAULT, hint="MOOR_DEBUG=1 shows where"))


def _own(arguments: list[str], environ: Mapping[str, str], transport: Any) -> int:
    if arguments == ["version"]:
        from moorage.cli.target import Surroundings
        from moorage.cli.versions import show

        show(Surroundings(environ))
        return exits.OK
    from moorage.cli.app import invoke

    return invoke(arguments, environ, transport)


def report(failure: Failure) -> int:
    sys.stdout.flush()
    if failure.message:
        sys.stderr.write(f"moor: {failure.message}\n")
    elif sys.stderr.isatty():
        sys.stderr.write("\n")  # after the terminal's own ^C
    if failure.hint:
        sys.stderr.write(f"  {failure.hint}\n")
    return failure.code


def plugins() -> list[str]:
    """Names of the commands that other distributions add."""
    from importlib.metadata import entry_points

    return sorted({entry.name for entry in entry_points(group=GROUP)})


def _plugin(name: str) -> Plugin | None:
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        plugin: Plugin = entry.load()
        return plugin
    return None
