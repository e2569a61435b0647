"""What the shell offers: kinds, names as the controller knows them, states, contexts.

Asked with each press of Tab, so by the standard library and with little patience; whoever cannot be asked offers
nothing, and never an error into somebody's half typed line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import typer

from moorage.cli import contexts
from moorage.cli.exits import Failure
from moorage.cli.kinds import ALLOCATION, EVENT, JOB, KINDS, NODE, Kind, kind_of
from moorage.cli.target import Surroundings, Target, resolve

PATIENCE_S = 1.0


def kind(ctx: typer.Context, incomplete: str) -> list[str]:
    """`jobs`, and after a slash a name: `job/hello`."""
    before, slash, after = incomplete.partition("/")
    if slash:
        return [f"{before}/{one}" for one in _beginning(after, _names(ctx, _kind(before)))]
    return _beginning(incomplete, [word for kind in KINDS for word in (kind.aliases[0], kind.name)])


def name(ctx: typer.Context, incomplete: str) -> list[str]:
    return _beginning(incomplete, _names(ctx, _kind(_kind_word(ctx))))


def job(ctx: typer.Context, incomplete: str) -> list[str]:
    return _beginning(incomplete, _names(ctx, JOB))


def node(ctx: typer.Context, incomplete: str) -> list[str]:
    return _beginning(incomplete, _names(ctx, NODE))


def context(ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        return _beginning(incomplete, contexts.load(_environ(ctx)).named)
    except Failure:
        return []


def state(ctx: typer.Context, incomplete: str) -> list[str]:
    from moorage.cli.commands.wait import CONDITIONS

    kind = _kind(_kind_word(ctx).partition("/")[0])
    return _beginning(incomplete, CONDITIONS.get(kind.name, {}) if kind else ())


def _kind_word(ctx: typer.Context) -> str:
    """An option whose value is still being typed leaves the arguments before it unparsed."""
    return str(ctx.params.get("kind") or next((word for word in ctx.args if not word.startswith("-")), ""))


def _beginning(incomplete: str, words: Any) -> list[str]:
    return sorted(word for word in words if word.startswith(incomplete))


def _kind(word: str) -> Kind | None:
    try:
        return kind_of(word)
    except Failure:
        return None


def _names(ctx: typer.Context, kind: Kind | None) -> list[str]:
    if kind is None or kind is EVENT:
        return []
    try:
        target = resolve(_environ(ctx), ctx.params.get("context"), ctx.params.get("project"))
        return list(dict.fromkeys(item["name"] for item in _list(target, kind)))
    except (Failure, OSError, ValueError, KeyError, TypeError):
        return []


def _list(target: Target, kind: Kind) -> list[dict[str, Any]]:
    import urllib.request  # commands that complete nothing start without it

    within = "" if kind is NODE else f"/projects/{quote(target.project, safe='')}"
    path = f"/v1{within}/{'allocations' if kind is ALLOCATION else kind.aliases[0]}"
    request = urllib.request.Request(target.url + path, headers={"Authorization": f"Bearer {target.token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
        return items


def _environ(ctx: typer.Context) -> Mapping[str, str]:
    return ctx.obj.environ if isinstance(ctx.obj, Surroundings) else os.environ
