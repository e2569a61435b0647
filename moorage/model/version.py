"""One immutable version of a job, as it is stored under jobver/{uid}/{n}."""

from __future__ import annotations

import json
from dataclasses import dataclass

from moorage.model.canonical import dump_json, job_dict, job_of_stored, template, template_hash
from moorage.model.errors import FieldError, SpecError
from moorage.model.job import Job


@dataclass(frozen=True, slots=True)
class JobVersion:
    """`template_hashes`: group -> what its instances were made from, computed when the version was written."""

    spec: Job
    template_hashes: dict[str, bytes]
    principal: str = ""
    created_ms: int = 0


VersionRecord = JobVersion


def template_hashes(job: Job, previous: JobVersion | None = None) -> dict[str, bytes]:
    """The hash of each group; that of the previous version where the template is the same.

    Taking it over matters after an upgrade: a release that knows one more field would hash the same template
    differently, and the next change of a count would restart a fleet.
    """
    return {name: _taken_over(job, name, previous) or template_hash(job, name) for name in job.groups}


def _taken_over(job: Job, group: str, previous: JobVersion | None) -> bytes | None:
    if previous is None or group not in previous.spec.groups:
        return None
    same = template(job.groups[group]) == template(previous.spec.groups[group])
    return previous.template_hashes.get(group) if same else None


def encode_version(version: JobVersion) -> bytes:
    return dump_json(
        {
            "spec": job_dict(version.spec),
            "template_hashes": {group: value.hex() for group, value in version.template_hashes.items()},
            "principal": version.principal,
            "created_ms": version.created_ms,
        }
    )


def decode_version(data: bytes) -> JobVersion:
    """Tolerant of fields of a later release. Raises SpecError for what is not a version."""
    try:
        record = json.loads(data)
        hashes = {group: bytes.fromhex(value) for group, value in record["template_hashes"].items()}
        spec, principal, created_ms = record["spec"], record.get("principal", ""), record.get("created_ms", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError([FieldError("", f"is not a stored version of a job: {error!r}")]) from None
    return JobVersion(job_of_stored(spec), hashes, principal, created_ms)
