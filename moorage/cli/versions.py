"""The versions of both sides, told without typer, httpx and the models: that is why `moor version` answers at once."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any

from moorage.cli import output
from moorage.cli.exits import Failure
from moorage.cli.target import Surroundings, Target, resolve

PATIENCE_S = 2.0


def show(surroundings: Surroundings, context: str | None = None, ask: bool = True) -> None:
    """For people. Where the controller cannot be asked, its line says why."""
    answer = {"Command": release()}
    if ask:
        server, trouble = controller(surroundings, context)
        if server is None:
            answer["Controller"] = f"not known: {trouble}"
        else:
            leads = "leads" if server.get("leader") else f"the leader is {server.get('leader_url') or 'not known'}"
            answer["Controller"] = f"{server.get('version')} (protocol {server.get('protocol')}), {leads}"
            answer["Cluster"] = str(server.get("cluster_id", ""))
    output.print_fields(answer)


def release() -> str:
    try:
        return installed("moorage")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"


def controller(surroundings: Surroundings, context: str | None) -> tuple[dict[str, Any] | None, str]:
    import urllib.error

    try:
        target = resolve(surroundings.environ, context)
    except Failure as failure:
        if context:
            raise
        return None, failure.message
    try:
        return _ask(target), ""
    except urllib.error.HTTPError as error:
        token = " (the token is not valid; `moor login` saves another one)" if error.code == 401 else ""
        return None, f"{target.url} answered {error.code} {error.reason}{token}"
    except (OSError, ValueError) as error:
        beneath = getattr(error, "reason", error)
        return None, f"{target.url} cannot be reached: {getattr(beneath, 'strerror', None) or beneath}"


def _ask(target: Target) -> dict[str, Any]:
    """By the standard library: the client, its models and httpx would take this one call five times as long."""
    import urllib.request  # other commands, which ask this module for a version number alone, start without it

    request = urllib.request.Request(f"{target.url}/v1/version", headers={"Authorization": f"Bearer {target.token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE_S) as response:
        answer = json.load(response)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not that of a controller")
    return answer
