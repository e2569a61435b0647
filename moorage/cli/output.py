"""Tables for people, JSON and YAML for programs.

A table is as wide as its contents where a program reads it. On a terminal the last column gives way; where that is not
enough, lines go on in the next one, since a column that is not shown helps nobody.
Colour goes by the word in a cell; NO_COLOR and pipes get none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from moorage.cli.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE_ENOUGH = 100_000
GAP = 2  # between columns
LEAST = 20  # of the last column, however narrow the terminal

_STYLES = {
    "running": "green",
    "healthy": "green",
    "ready": "green",
    "deploying": "cyan",
    "preparing": "cyan",
    "pending": "yellow",
    "stopping": "yellow",
    "deleting": "yellow",
    "degraded": "yellow",
    "cordoned": "yellow",
    "draining": "yellow",
    "failed": "red",
    "unhealthy": "red",
    "lost": "red",
    "stopped": "dim",
}


class Format(StrEnum):
    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"

    @property
    def for_people(self) -> bool:
        return self in (Format.table, Format.wide)


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def console(whole: bool = False) -> Console:
    """`whole`: as wide as what is printed, on a terminal too."""
    from rich.console import Console

    width = None if sys.stdout.isatty() and not whole else WIDE_ENOUGH
    return Console(file=sys.stdout, width=width, highlight=False)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, folded: bool = False) -> Table:
    """At most `width` wide: the last column is cut for that, or `folded` into several lines."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    cells = [[Text(plain(cell), style=_STYLES.get(cell, "")) for cell in row] for row in rows]
    for place, title in enumerate(titles):
        widest = max([len(title), *(row[place].cell_len for row in cells)])
        # rich would take from every column what the last one has too much.
        last = place == len(titles) - 1
        if last and widest > width:
            widest = max(width, len(title), LEAST)
            for row in cells:
                if not folded:
                    row[place].truncate(widest, overflow="ellipsis")
        found.add_column(title, no_wrap=not (last and folded), overflow="ellipsis", min_width=widest, max_width=widest)
        width -= widest + GAP
    for row in cells:
        found.add_row(*row)
    return found


def live_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, folded: bool = False) -> Table:
    """For a terminal as wide as it is now, with room for the ^C that ends it."""
    return table(titles, rows, console().width - len("^C"), folded=folded)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Columns in which no row has anything are left out. `whole`: nothing is cut, on a terminal neither."""
    kept = [place for place in range(len(titles)) if not rows or any(row[place] for row in rows)]
    target = console(whole)
    shown = [[row[place] for place in kept] for row in rows]
    if _least([titles[place] for place in kept], shown) > target.width:
        target, whole = console(True), True
    found = table([titles[place] for place in kept], shown, target.width)
    with target.capture() as capture:
        target.print(found, soft_wrap=whole)
    say("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _least(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The width that a table needs where its last column has given way."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    return sum(width + GAP for width in widths[:-1]) + min(widths[-1], LEAST) if widths else 0


def print_data(value: Any, format: Format) -> None:
    """JSON values as they came from the API."""
    if format is Format.json:
        say(json.dumps(value, indent=2, ensure_ascii=False))
        return
    import yaml

    sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and values below each other; those without a value are left out."""
    given = {name: value for name, value in fields.items() if value}
    width = max(map(len, given), default=0)
    for name, value in given.items():
        say(f"{name + ':':<{width + 2}}{plain(value)}")
