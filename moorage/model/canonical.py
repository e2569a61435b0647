"""Jobs as they are stored: JSON with every default filled in, in one form, so that equal jobs are equal bytes.

What is stored stays what it was when a later release has other defaults. Reading back is tolerant: fields of a later
release are left out, and checks of meaning that a later release has added are not applied.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from moorage.model.base import STORED
from moorage.model.errors import SpecError
from moorage.model.group import Group
from moorage.model.job import Job
from moorage.model.validation import field_errors


def job_dict(job: Job) -> dict[str, Any]:
    """JSON values, quantities in their canonical text: what REST shows as `spec`, and what `parse_job` takes."""
    return job.model_dump(mode="json")


def canonical_json(job: Job) -> bytes:
    return dump_json(job_dict(job))


def dump_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_job(data: bytes) -> Job:
    """The inverse of `canonical_json`. Raises SpecError for what no release of this language can have stored."""
    try:
        return Job.model_validate_json(data, extra="ignore", context=STORED)
    except ValidationError as error:
        raise SpecError(field_errors(error, None)) from None


def job_of_stored(spec: dict[str, Any]) -> Job:
    """As `read_job`, from JSON already parsed."""
    try:
        return Job.model_validate(spec, extra="ignore", context=STORED)
    except ValidationError as error:
        raise SpecError(field_errors(error, None)) from None


def template_hash(job: Job, group: str) -> bytes:
    """Of what a running instance was made from; a change of it, and of nothing else, replaces instances.

    Computed once, at PUT, and stored with the version (see `moorage.model.version.template_hashes`).
    """
    return blake2b(dump_json(template(job.groups[group])), digest_size=16).digest()


def template(group: Group) -> dict[str, Any]:
    """Network, ports, and each task's container, env and resources. Policies, health checks and counts are not in it.

    Nor is the pull policy: how an image comes to the node changes nothing about what runs.
    """
    tasks = {
        name: task.model_dump(mode="json", include={"container", "env", "resources"})
        for name, task in group.tasks.items()
    }
    for task in tasks.values():
        del task["container"]["pull"]
    outer = group.model_dump(mode="json", include={"networks", "ports"})
    return {**outer, "tasks": tasks}
