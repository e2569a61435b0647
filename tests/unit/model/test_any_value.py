"""Whatever stands wherever in a job: it is taken or refused, never a crash, and every error can be sent as JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from moorage.model import SpecError, canonical_json, job_dict, parse_job, template_hashes
from tests.unit.model.samples import job, spoiled

WITH_LISTS = """\
count: 3
    constraints: [{attribute: a, operator: in, value: [b]}, {attribute: a, value: b}]
    spread: [{attribute: a, targets: {b: 1}}]"""
WITH_MAPPINGS = """\
env: {A: b}
        container: {ulimits: {core: 1}, hosts: {a: '::1'}, """
FULL = job_dict(job(spoiled("count: 3", WITH_LISTS).replace("container: {", WITH_MAPPINGS)))
ODD: list[Any] = [
    "\ud800",
    "",
    "\0",
    "x" * 100_000,
    "9" * 5000,
    "{got}",
    10**400,
    -1,
    2**63,
    float("inf"),
    float("nan"),
    1e300,
    True,
    None,
    [],
    {},
    [[]],
    {"": ""},
    {"\ud800": 1},
]
Path = tuple[str | int, ...]


def paths(data: Any, above: Path = ()) -> Iterator[Path]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in below:
        yield (*above, key)
        yield from paths(value, (*above, key))


def spoil(path: Path, odd: Any) -> Iterator[Any]:
    """As the value, as the only item of a list, and as the key."""
    for kind in ("value", "item", "key"):
        data: Any = copy.deepcopy(FULL)
        parent = data
        for key in path[:-1]:
            parent = parent[key]
        if kind == "value":
            parent[path[-1]] = odd
        elif kind == "item" and isinstance(parent[path[-1]], list):
            parent[path[-1]] = [odd]
        elif kind == "key" and isinstance(odd, str) and isinstance(parent, dict):
            parent[odd] = parent.pop(path[-1])
        else:
            continue
        yield data


@pytest.mark.parametrize("path", list(paths(FULL)), ids=lambda path: ".".join(map(str, path)))
def test_no_value_at_this_place_crashes(path: Path) -> None:
    for odd in ODD:
        for data in spoil(path, odd):
            try:
                made = parse_job(data)
            except SpecError as error:
                assert error.errors
                for found in error.errors:
                    assert (
                        len(json.dumps([found.path, found.message, found.suggestion], ensure_ascii=False).encode())
                        < 2000
                    )
            else:
                assert canonical_json(made)
                assert template_hashes(made).keys() == made.groups.keys()
