"""What a file would change, for `diff` and `apply --dry-run`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moorage.cli import output
from moorage.cli.text import plain

if TYPE_CHECKING:
    from moorage.client import Client
    from moorage.model import Document
    from moorage.model.view import ChangeView, PlanView

_VERBS = {"create": "would be created", "update": "would change", "unchanged": "stays as it is"}


async def show(client: Client, documents: list[Document]) -> bool:
    """Print it; True where anything would change."""
    from moorage.cli.files import spec_of

    differs = False
    for document in documents:
        plan = await client.plan_job(spec_of(document))
        differs |= plan.action != "unchanged"
        for line in lines(document, plan):
            output.say(line)
    return differs


def lines(document: Document, plan: PlanView) -> list[str]:
    found = [f"{document.kind.lower()} {document.name} {_VERBS[plan.action]}"]
    found += [f"  {group}: {plain(what)}" for group, what in plan.groups.items()]
    if plan.action == "update":
        found += [f"  {_change(change)}" for change in plan.changes]
    return found + [f"  warning: {plain(warning)}" for warning in plan.warnings]


def _change(change: ChangeView) -> str:
    if change.old is None:
        return f"+ {change.path}: {_value(change.new)}"
    if change.new is None:
        return f"- {change.path}: {_value(change.old)}"
    return f"~ {change.path}: {_value(change.old)} -> {_value(change.new)}"


def _value(value: Any) -> str:
    return plain(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
