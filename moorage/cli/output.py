"""Tables for people, JSON and YAML for programs.

A table is as wide as its contents where a program reads it, and never wraps: on a terminal the last column gives way.
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


def console() -> Console:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else WIDE_ENOUGH, highlight=False, soft_wrap=False)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        last = position == len(titles) - 1
        found.add_column(title, no_wrap=True, overflow="ellipsis", min_width=None if last else len(title))
    for row in rows:
        found.add_row(*(Text(plain(cell), style=_STYLES.get(cell, "")) for cell in row))
    return found


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns in which no row has anything are left out."""
    kept = [place for place in range(len(titles)) if not rows or any(row[place] for row in rows)]
    found = table([titles[place] for place in kept], [[row[place] for place in kept] for row in rows])
    target = console()
    if target.is_terminal:
        target.print(found)
        return
    with target.capture() as capture:
        target.print(found)
    say("\n".join(line.rstrip() for line in capture.get().splitlines()))


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
