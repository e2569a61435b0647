"""The parts of the language that this release does not build yet: refused by name, never ignored, never "unknown".

Paths are as in the YAML, `*` for a name or an index. When a part is built, its line goes and a field comes.
"""

from __future__ import annotations

from collections.abc import Sequence

_TASK = ("groups", "*", "tasks", "*")
_GROUP = ("groups", "*")

FIELDS: dict[tuple[str, ...], str] = {
    ("schedule",): "schedule (cron jobs) is",
    ("batch",): "batch (jobs that end) is",
    (*_GROUP, "near"): "near is",
    (*_GROUP, "apart"): "apart is",
    (*_GROUP, "volumes"): "volumes are",
    (*_TASK, "after"): "after is",
    (*_TASK, "vm"): "vm (virtual machines) is",
    (*_TASK, "files"): "files are",
    (*_TASK, "mounts"): "mounts are",
    (*_TASK, "container", "registry_login"): "registry_login is",
    (*_TASK, "container", "devices"): "devices are",
    (*_TASK, "resources", "network"): "network (a limit of bandwidth) is",
    (*_TASK, "resources", "gpu"): "gpu is",
    (*_TASK, "resources", "disk_iops"): "disk_iops is",
    (*_TASK, "health", "agent"): "agent (health told from inside a VM) is",
}

VALUES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("type",): ("batch", "system", "cron"),
}

KINDS = ("Network", "SecurityGroup", "Volume", "Secret", "Image")


def later_field(location: Sequence[str | int]) -> str | None:
    """What is not yet supported at this path ("near is"), or None where the language has no such field."""
    return next((what for path, what in FIELDS.items() if _matches(path, location)), None)


def later_value(location: Sequence[str | int], value: object) -> bool:
    """Whether the language gives this field such a value, but this release does not."""
    return any(value in values for path, values in VALUES.items() if _matches(path, location))


def later_names(parent: Sequence[str | int]) -> list[str]:
    """Names of fields of the language that are not yet supported below `parent`."""
    return [path[-1] for path in FIELDS if _matches(path[:-1], parent)]


def _matches(path: Sequence[str], location: Sequence[str | int]) -> bool:
    return len(path) == len(location) and all(
        part in ("*", actual) for part, actual in zip(path, location, strict=True)
    )
