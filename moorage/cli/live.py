"""`-w`: a table that keeps itself up to date on a terminal; elsewhere a line for each change."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from moorage.cli import exits, kinds, output
from moorage.cli.kinds import Filter, Kind
from moorage.cli.output import Format
from moorage.cli.text import now_ms, plain
from moorage.cli.watching import states

if TYPE_CHECKING:
    from moorage.client import Client
    from moorage.model.view import WatchEvent


async def show_live(client: Client, kind: Kind, wanted: Filter, name: str | None, format: Format) -> None:
    """Until interrupted."""
    events = kinds.watch(client, kind, wanted)
    if format is Format.yaml:
        raise exits.usage("-w with -o yaml does not go together", "-o json prints one change a line")
    if format is Format.json:
        async for event in events:
            print_line(event.model_dump_json())
    elif sys.stdout.isatty() and kind is not kinds.EVENT:
        await _table(events, kind, name, format)
    else:
        await _lines(events, kind, name, format)


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def chosen(kind: Kind, view: Any, name: str | None) -> bool:
    """A node is known by its id as well as by its name; an allocation by the beginning of its id, too."""
    if name is None:
        return True
    names = (kind.key(view), getattr(view, "name", ""))
    return name in names or (kind is kinds.ALLOCATION and view.id.startswith(name))


async def _table(events: AsyncIterator[WatchEvent[Any]], kind: Kind, name: str | None, format: Format) -> None:
    from rich.live import Live

    wide = format is Format.wide
    with Live(console=output.console(), refresh_per_second=8) as live:
        async for objects in states(events, kind.key):
            now = now_ms()
            rows = [kind.row(view, now, wide) for view in _sorted(objects) if chosen(kind, view, name)]
            live.update(output.live_table(kind.titles(wide), rows))


async def _lines(events: AsyncIterator[WatchEvent[Any]], kind: Kind, name: str | None, format: Format) -> None:
    """A row per change, as wide as each cell needs: what is to come is not known."""
    wide = format is Format.wide
    print_line("  ".join(kind.titles(wide)))
    names: dict[str, str] = {}
    async for event in events:
        if event.type == "delete" and event.name in names:
            print_line(f"{names.pop(event.name)}  deleted")
        elif event.object is not None and chosen(kind, event.object, name):
            row = kind.row(event.object, now_ms(), wide)
            names[kind.key(event.object)] = row[0]
            print_line("  ".join(plain(cell) or "-" for cell in row))


def _sorted(objects: Mapping[str, Any]) -> list[Any]:
    return sorted(objects.values(), key=lambda view: getattr(view, "name", ""))
