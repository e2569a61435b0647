"""YAML read as a tree that knows its lines, from events, within bounds.

PyYAML's own constructor would expand aliases in whoever walks the result, keep the last of duplicate keys, and read
`12:30` as 750. Here the tree is built from libyaml's events: size, depth and the number of nodes *after* expansion of
aliases are bounded, so a "billion laughs" is refused at its first laugh too many; duplicate keys are errors; scalars
whose YAML 1.1 meaning would surprise (octal, base 60, infinities) are errors that say how to write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.resolver import Resolver

from moorage.model.errors import FieldError, path_text
from moorage.model.yamlscalar import MERGE, TAG, meaning, taken, trap, word
from moorage.model.yamltree import Location, Node, Tree, YamlError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 48
_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_trees(text: str, source: str) -> Iterator[Tree]:
    """The documents of a file. Raises YamlError where the rest cannot be read."""
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise YamlError(f"is {len(text) / (1 << 20):.1f} MiB large: at most 1 MiB a file", None, "split it")
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            tree = builder.take(event)
            if tree is not None:
                yield tree
    except UnicodeEncodeError as error:
        raise YamlError("is not a text file in UTF-8", text.count("\n", 0, error.start) + 1) from None
    except yaml.reader.ReaderError as error:
        raise _not_text(text, error) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(text, error) from None
    except yaml.YAMLError as error:
        raise YamlError(f"is not YAML: {str(error).splitlines()[0]}") from None


class _Builder:
    """Takes events, gives trees. Keeps the open collections on a stack of its own: nesting cannot exhaust ours."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._resolver = Resolver()
        self._nodes = 0
        self._characters = 0
        self._start()

    def _start(self) -> None:
        self._open: list[tuple[Node, list[str | int]]] = []
        self._keys: list[tuple[str, int] | None] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._errors: list[FieldError] = []

    def take(self, event: yaml.Event) -> Tree | None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()
        elif isinstance(event, yaml.DocumentEndEvent) and self._root is not None:
            tree = Tree(self._root, self._errors)
            self._start()
            return tree
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line = _line(event)
        self._count(1, len(event.value), line)
        if self._expects_key():
            self._key(event, line)
            return
        node = Node(line, text=event.value, characters=len(event.value), complete=True)
        node.value = self._value(event, line)
        self._remember(event, node)
        self._attach(node)

    def _key(self, event: yaml.ScalarEvent, line: int) -> None:
        tag = self._tag(event)
        if tag == MERGE:
            self._keys[-1] = (MERGE, line)
            return
        if not isinstance(meaning(tag, event.value), str):
            suggestion = f'write "{event.value}" in quotes'
            self._complain((event.value,), f"YAML reads the key {event.value} as {word(tag)}", line, suggestion)
        mapping = self._open[-1][0]
        if mapping.entries is not None and event.value in mapping.entries:
            first = mapping.entries[event.value][0]
            self._complain((event.value,), f"is there twice: first in line {first}", line)
        self._keys[-1] = (event.value, line)

    def _value(self, event: yaml.ScalarEvent, line: int) -> Any:
        tag = self._tag(event)
        if not taken(tag):
            raise YamlError(f"the tag {tag} is not taken: plain YAML only", line)
        if problem := trap(tag, event.value):
            self._complain(self._here(), problem, line, f'write "{event.value}" in quotes if it is text')
            return event.value
        return meaning(tag, event.value)

    def _tag(self, event: yaml.ScalarEvent) -> str:
        if event.tag is not None and event.tag != "!":
            return str(event.tag)
        return str(self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit))  # type: ignore[no-untyped-call]

    def _alias(self, event: yaml.AliasEvent) -> None:
        line = _line(event)
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise YamlError(f"*{event.anchor} refers to nothing: no &{event.anchor} before it", line)
        if not node.complete:
            raise YamlError(f"*{event.anchor} refers to something that holds it", line)
        if self._expects_key():
            raise YamlError("an alias cannot be a key", line)
        self._count(node.nodes, node.characters, line)
        if len(self._open) + node.depth > MAX_DEPTH:
            raise YamlError(_TOO_DEEP, line)
        self._attach(node)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        line = _line(event)
        self._count(1, 0, line)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(_TOO_DEEP, line)
        if self._expects_key():
            raise YamlError("a key must be plain text", line, "text that begins with { or [ needs quotes")
        if event.tag not in (None, "!", TAG + "map", TAG + "seq"):
            raise YamlError(f"the tag {event.tag} is not taken: plain YAML only", line)
        mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(line, items=None if mapping else [], entries={} if mapping else None)
        self._remember(event, node)
        self._open.append((node, list(self._here())))
        self._keys.append(None)

    def _end(self) -> None:
        node, _ = self._open.pop()
        self._keys.pop()
        for merged in node.merged:
            for key, entry in (merged.entries or {}).items():
                if node.entries is not None:
                    node.entries.setdefault(key, entry)
        children = node.items if node.items is not None else [child for _, child in (node.entries or {}).values()]
        node.nodes = 1 + sum(child.nodes for child in children) + len(node.entries or ())
        node.characters = sum(child.characters for child in children) + sum(map(len, node.entries or ()))
        node.depth = 1 + max((child.depth for child in children), default=0)
        node.complete = True
        self._attach(node)

    def _attach(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent, _ = self._open[-1]
        if parent.items is not None:
            parent.items.append(node)
            return
        key = self._keys[-1]
        self._keys[-1] = None
        if key is None or parent.entries is None:
            return
        if key[0] == MERGE:
            self._merge(parent, node)
        else:
            parent.entries[key[0]] = (key[1], node)

    def _merge(self, parent: Node, node: Node) -> None:
        sources = node.items if node.items is not None else [node]
        if any(source.entries is None for source in sources):
            raise YamlError("<< merges mappings, and this is none", node.line)
        parent.merged.extend(sources)

    def _remember(self, event: yaml.NodeEvent, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _expects_key(self) -> bool:
        return bool(self._open) and self._open[-1][0].entries is not None and self._keys[-1] is None

    def _here(self) -> Location:
        """The path of the value that comes next."""
        if not self._open:
            return ()
        node, path = self._open[-1]
        if node.items is not None:
            return (*path, len(node.items))
        key = self._keys[-1]
        return (*path, key[0]) if key else tuple(path)

    def _count(self, nodes: int, characters: int, line: int) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._characters > MAX_BYTES:
            raise YamlError("holds more than 1 MiB of text, aliases counted as often as they are used", line)
        if self._nodes > MAX_NODES:
            raise YamlError(f"holds more than {MAX_NODES} values, aliases counted as often as they are used", line)

    def _complain(self, key: Location, message: str, line: int, suggestion: str = "") -> None:
        location = (*self._open[-1][1], *key) if self._expects_key() else key
        self._errors.append(FieldError(path_text(location), message, suggestion, line, self._source))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _not_text(text: str, error: yaml.reader.ReaderError) -> YamlError:
    position = error.position if isinstance(error.position, int) else 0
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    line = text.count("\n", 0, position) + 1
    return YamlError(f"is not a text file: it holds the character {code:#04x}", line)


def _syntax(text: str, error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else None
    lines = text.splitlines()
    here = lines[line - 1] if line is not None and line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return YamlError("is indented with a tab: YAML takes spaces only", line, "replace the tab by spaces")
    if "nesting depth" in str(error.problem):
        return YamlError(_TOO_DEEP, line)
    context = f" ({error.context})" if error.context else ""
    return YamlError(f"is not YAML: {error.problem}{context}", line)
