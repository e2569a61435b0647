"""Fills $MOOR_… into commands and environment values, and nothing else.

`$MOOR_JOB` and `${MOOR_JOB}` are ours; every other `$` belongs to the container's own shell and is left alone, `$$`
(a shell's process id) included. `$$MOOR_JOB` is how to write a literal `$MOOR_JOB`. A MOOR_ name that does not exist
stays as it is written, so that a misspelling shows itself where it is used. The same variables are also given to each
task in its environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from moorage.wire.session_pb2 import Assignment

_VARIABLE = re.compile(r"\$(\$?)(?:(MOOR_\w+)|\{(MOOR_\w+)\})", re.ASCII)


def expand(text: str, variables: Mapping[str, str]) -> str:
    if "$" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        return variables.get(match[2] or match[3], match[0])

    return _VARIABLE.sub(replacement, text)


def expand_all(texts: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    return [expand(text, variables) for text in texts]


def group_variables(assignment: Assignment, *, node: str, address: str) -> dict[str, str]:
    """What is the same for all tasks of a group. `address` is where the group's ports are reached."""
    variables = {
        "MOOR_PROJECT": assignment.project,
        "MOOR_JOB": assignment.job,
        "MOOR_GROUP": assignment.group,
        "MOOR_INDEX": str(assignment.index),
        "MOOR_ALLOC": assignment.alloc,
        "MOOR_NODE": node,
    }
    for port in assignment.spec.ports:
        number = assignment.ports.get(port.name, port.number)
        suffix = port.name.replace("-", "_")  # no shell can read a variable with a dash in its name
        variables[f"MOOR_PORT_{suffix}"] = str(number)
        variables[f"MOOR_ADDR_{suffix}"] = f"{address}:{number}"
    return variables


def task_environment(env: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """The task's whole environment: ours, and the user's over it."""
    return {**variables, **{name: expand(value, variables) for name, value in env.items()}}
