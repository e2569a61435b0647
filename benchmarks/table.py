"""How a benchmark says what it found: a table for people, a flat object for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """`wanted` is a bound in words ("<= 0.65"), empty where there is none."""

    name: str
    value: float
    wanted: str = ""

    @property
    def met(self) -> bool | None:
        if not self.wanted:
            return None
        sign, _, bound = self.wanted.partition(" ")
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


def parser(name: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"./dev bench {name}", description=description)
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there, as one flat object")
    return made


def report(title: str, figures: list[Figure], notes: Mapping[str, str], output: Path | None) -> None:
    table = Table(title=title, title_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("wanted", "right"), ("", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for figure in figures:
        mark = {None: "", True: "met", False: "MISSED"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g}", figure.wanted, mark)
    console = Console()
    console.print(table)
    for name, text in notes.items():
        console.print(f"  {name}: {text}")
    if output:
        output.write_text(json.dumps({figure.name: round(figure.value, 4) for figure in figures}, indent=2) + "\n")
