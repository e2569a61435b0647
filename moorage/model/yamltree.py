"""A YAML document as a tree that knows its lines: what errors are placed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage.model.errors import FieldError

Location = tuple[str | int, ...]


class YamlError(Exception):
    """The text cannot be read as YAML that we take; nothing after `line` was looked at."""

    def __init__(self, message: str, line: int | None = None, suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.suggestion = suggestion


@dataclass(slots=True)
class Node:
    """A scalar (`text` as written, `value` as read), a list (`items`) or a mapping (`entries`)."""

    line: int
    value: Any = None
    text: str | None = None
    items: list[Node] | None = None
    entries: dict[str, tuple[int, Node]] | None = None
    merged: list[Node] = field(default_factory=list)
    nodes: int = 1  # with everything below, aliases expanded
    characters: int = 0  # likewise
    depth: int = 1
    complete: bool = False

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if self.entries is not None:
            return {key: node.plain() for key, (_, node) in self.entries.items()}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.value

    def find(self, location: Sequence[str | int]) -> Node:
        """The node at `location`, or the nearest one above it."""
        node = self
        for part in location:
            below = node._child(part)
            if below is None:
                break
            node = below
        return node

    def line_of(self, location: Sequence[str | int]) -> int:
        """Where the field is written: the line of its key; of the nearest thing above it where it is missing."""
        node, line = self, self.line
        for part in location:
            if node.entries is not None and isinstance(part, str) and part in node.entries:
                line, node = node.entries[part]
            elif (below := node._child(part)) is not None:
                line, node = below.line, below
            else:
                break
        return line

    def _child(self, part: str | int) -> Node | None:
        if self.entries is not None and isinstance(part, str):
            return self.entries[part][1] if part in self.entries else None
        if self.items is not None and isinstance(part, int) and part < len(self.items):
            return self.items[part]
        return None


@dataclass(slots=True)
class Tree:
    """One document: its root, and what is wrong in it already as YAML."""

    root: Node
    errors: list[FieldError]
