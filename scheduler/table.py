"""What changes rarely about nodes: identity, drivers, and attributes as integer columns.

Each node has a row. The column of an attribute is made when a request first names the attribute: a code per row into
the list of its distinct values. A constraint is then asked once per distinct value, and its mask over all rows is one
array lookup; both are kept until a node changes.

Copies of a snapshot share the table. `fork` gives the writer one of its own; the columns and masks that readers add
to a shared one are the same whoever computes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from scheduler.matching import predicate
from scheduler.types import Affinity, Constraint

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MASKS = 1024  # so many kept; then forgotten, all at once


@dataclass(slots=True)
class Column:
    """`values[codes[row]]` is the attribute's value; code 0 is None: the node does not have it."""

    codes: NDArray[np.int32]
    values: list[str | None]
    index: dict[str | None, int]

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Column:
        index: dict[str | None, int] = {None: 0}
        codes = [index.setdefault(value, len(index)) for value in values]
        return cls(np.array(codes, dtype=np.int32), list(index), index)

    def changed(self, row: int, value: str | None) -> Column:
        """This column with another value in one row."""
        codes, values, index = self.codes, self.values, self.index
        if value not in index:
            values = [*values, value]
            index = {**index, value: len(index)}
        codes = codes.copy()
        codes[row] = index[value]
        return Column(codes, values, index)


@dataclass(slots=True)
class NodeTable:
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)  # of the id: ties are broken by it, not by the order of arrival
    why_not: list[str] = field(default_factory=list)
    drivers: list[frozenset[str]] = field(default_factory=list)
    attributes: list[Mapping[str, str]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    _columns: dict[str, Column] = field(default_factory=dict)
    _masks: dict[Constraint | tuple[str, ...], Bools] = field(default_factory=dict)
    _hash_column: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def fork(self) -> NodeTable:
        return NodeTable(
            ids=self.ids.copy(),
            names=self.names.copy(),
            hashes=self.hashes.copy(),
            why_not=self.why_not.copy(),
            drivers=self.drivers.copy(),
            attributes=self.attributes.copy(),
            rows=self.rows.copy(),
            _columns=self._columns.copy(),
        )

    def assign(self, row: int, node: str) -> None:
        """Give a free row, or the next new one, to a node."""
        if row == len(self.ids):
            for values in (self.ids, self.names, self.why_not):
                values.append("")
            self.hashes.append(0)
            self.drivers.append(frozenset())
            self.attributes.append({})
            self._columns = {}
        self.ids[row] = node
        self.hashes[row] = int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "big")
        self.rows[node] = row
        self.describe(row, node, "", (), {})

    def describe(
        self, row: int, name: str, why_not: str, drivers: Iterable[str], attributes: Mapping[str, str]
    ) -> None:
        self.names[row] = name
        self.why_not[row] = why_not
        self.drivers[row] = frozenset(drivers)
        self.attributes[row] = dict(attributes)
        self._columns = {key: self._recoded(key, column, row) for key, column in self._columns.items()}
        self._masks = {}
        self._hash_column = None

    def vacate(self, row: int) -> None:
        del self.rows[self.ids[row]]

    def value(self, row: int, attribute: str) -> str | None:
        if attribute == "node.id":
            return self.ids[row]
        if attribute == "node.name":
            return self.names[row]
        return self.attributes[row].get(attribute)

    def column(self, attribute: str) -> Column:
        column = self._columns.get(attribute)
        if column is None:
            column = Column.of(self.value(row, attribute) for row in range(len(self.ids)))
            self._columns[attribute] = column
        return column

    def matching(self, wish: Constraint | Affinity) -> Bools:
        """Of which rows the wish holds. Not to be written to."""
        value = wish.value if isinstance(wish.value, str) else tuple(wish.value)
        key = Constraint(wish.attribute, wish.operator, value)
        mask = self._masks.get(key)
        if mask is None:
            column, holds = self.column(wish.attribute), predicate(key)
            mask = np.array([holds(value) for value in column.values], dtype=np.bool_)[column.codes]
            self._keep(key, mask)
        return mask

    def driving(self, wanted: Sequence[str]) -> Bools:
        """Which rows have all these drivers. Not to be written to."""
        key = tuple(wanted)
        mask = self._masks.get(key)
        if mask is None:
            needed = frozenset(key)
            mask = np.array([needed <= drivers for drivers in self.drivers], dtype=np.bool_)
            self._keep(key, mask)
        return mask

    def hash_column(self) -> NDArray[np.uint64]:
        if self._hash_column is None:
            self._hash_column = np.array(self.hashes, dtype=np.uint64)
        return self._hash_column

    def _keep(self, key: Constraint | tuple[str, ...], mask: Bools) -> None:
        if len(self._masks) >= MASKS:
            self._masks = {}
        self._masks[key] = mask

    def _recoded(self, attribute: str, column: Column, row: int) -> Column:
        value = self.value(row, attribute)
        return column if column.values[column.codes[row]] == value else column.changed(row, value)
