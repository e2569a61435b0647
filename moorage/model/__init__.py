"""What users write and read. Names are imported on first use, for pydantic and YAML are slow to import.

Public: load_documents, parse_job, canonical_json, read_job, template_hash(es), encode_version, decode_version,
job_json_schema, and the types that they give.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moorage.model.canonical import canonical_json, job_dict, read_job, template_hash
    from moorage.model.document import Document, load_documents
    from moorage.model.errors import FieldError, SpecError
    from moorage.model.fields import share_of
    from moorage.model.group import Group, Task
    from moorage.model.job import Job
    from moorage.model.quantities import NEVER, UNLIMITED, format_bytes, format_cpu, format_duration
    from moorage.model.schema import job_json_schema
    from moorage.model.validation import parse_job
    from moorage.model.version import JobVersion, VersionRecord, decode_version, encode_version, template_hashes

_WHERE = {
    "Document": "document",
    "FieldError": "errors",
    "Group": "group",
    "Job": "job",
    "JobVersion": "version",
    "NEVER": "quantities",
    "SpecError": "errors",
    "Task": "group",
    "UNLIMITED": "quantities",
    "VersionRecord": "version",
    "canonical_json": "canonical",
    "decode_version": "version",
    "encode_version": "version",
    "format_bytes": "quantities",
    "format_cpu": "quantities",
    "format_duration": "quantities",
    "job_dict": "canonical",
    "job_json_schema": "schema",
    "load_documents": "document",
    "parse_job": "validation",
    "read_job": "canonical",
    "share_of": "fields",
    "template_hash": "canonical",
    "template_hashes": "version",
}

__all__ = [
    "NEVER",
    "UNLIMITED",
    "Document",
    "FieldError",
    "Group",
    "Job",
    "JobVersion",
    "SpecError",
    "Task",
    "VersionRecord",
    "canonical_json",
    "decode_version",
    "encode_version",
    "format_bytes",
    "format_cpu",
    "format_duration",
    "job_dict",
    "job_json_schema",
    "load_documents",
    "parse_job",
    "read_job",
    "share_of",
    "template_hash",
    "template_hashes",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
