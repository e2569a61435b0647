"""Which controller, token and project a command is for: flags, then the environment, then the current context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage.cli import contexts, exits
from moorage.cli.exits import Failure


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command may know of where it runs; typer carries it as `ctx.obj`."""

    environ: Mapping[str, str]
    transport: Any = None  # an httpx transport instead of the network


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    token: str
    project: str
    context: str  # its name; empty where the environment says it all


def resolve(environ: Mapping[str, str], context: str | None = None, project: str | None = None) -> Target:
    """Raises Failure where no controller is known. A context that is named by a flag overrules $MOOR_URL."""
    url, token = ("", "") if context else (environ.get("MOOR_URL", ""), environ.get("MOOR_TOKEN", ""))
    name = context or environ.get("MOOR_CONTEXT", "")
    if url and not name:
        chosen = contexts.Context(url, token)
    else:
        known = contexts.load(environ)
        name = name or known.current
        if not name:
            hint = "`./dev up` starts one here; `moor login --url URL` or $MOOR_URL and $MOOR_TOKEN name another"
            raise Failure("no controller is known", code=exits.USAGE, hint=hint)
        chosen = known.get(name)
    url = (url or chosen.url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        where = f"of context {name}" if name else "in $MOOR_URL"
        raise exits.usage(f"the URL {where} is none: {url!r}", "it begins with http:// or https://")
    return Target(
        url=url,
        token=token or chosen.token,
        project=project or environ.get("MOOR_PROJECT") or chosen.project,
        context=name,
    )
