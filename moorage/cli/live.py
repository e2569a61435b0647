"""`-w`: a table that keeps itself up to date on a terminal; elsewhere a line for each change."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from moorage.cli import exits, kinds, output
from moorage.cli.kinds import Filter, Kind
from moorage.cli.output import Format
from moorage.cli.text import clock, now_ms, plain
from moorage.cli.watching import states

if TYPE_CHECKING:
    from moorage.client import Client
    from moorage.model.view import WatchEvent


async def show_live(client: Client, kind: Kind, wanted: Filter, name: str | None, format: Format) -> None:
    """Until interrupted."""
    if format is Format.yaml:
        raise exits.usage("-w with -o yaml does not go together", "-o json prints one change a line")
    async with aclosing(kinds.watch(client, kind, wanted)) as events:
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


async def _table(events: AsyncGenerator[WatchEvent[Any], None], kind: Kind, name: str | None, format: Format) -> None:
    from rich.live import Live

    wide = format is Format.wide
    with Live(console=output.console(), refresh_per_second=8) as live:
        async with aclosing(states(events, kind.key)) as found:
            async for objects in found:
                now = now_ms()
                rows = [kind.row(view, now, wide) for view in _sorted(objects) if chosen(kind, view, name)]
                live.update(output.live_table(kind.titles(wide), rows))


async def _lines(events: AsyncGenerator[WatchEvent[Any], None], kind: Kind, name: str | None, format: Format) -> None:
    """A row per change, columns as wide as what came so far: what is to come is not known."""
    wide = format is Format.wide
    _, *titles = kind.titles(wide)
    # What stays on the screen needs a time that stays true.
    lines = _Lines(["TIME", *titles] if kind is kinds.EVENT else kind.titles(wide))
    names: dict[str, str] = {}
    async for event in events:
        lines.begin()
        if event.type == "delete" and event.name in names:
            print_line(f"{names.pop(event.name)}  deleted")
        elif event.object is not None and chosen(kind, event.object, name):
            row = kind.row(event.object, now_ms(), wide)
            names[kind.key(event.object)] = row[0]
            if kind is kinds.EVENT:
                row[0] = clock(event.object.at_ms)
            lines.add([plain(cell) or "-" for cell in row])


class _Lines:
    def __init__(self, titles: Sequence[str]) -> None:
        self._titles = titles
        self._widths = [len(title) for title in titles]
        self._begun = False

    def begin(self) -> None:
        """Titles, once there is an answer to put under them."""
        if not self._begun:
            self._begun = True
            self.add(self._titles)

    def add(self, cells: Sequence[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = [f"{cell:<{width}}" for width, cell in zip(self._widths, cells, strict=True)]
        print_line("  ".join(padded).rstrip())


def _sorted(objects: Mapping[str, Any]) -> list[Any]:
    return sorted(objects.values(), key=lambda view: getattr(view, "name", ""))
