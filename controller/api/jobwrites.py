"""How a job changes in the store: read, decide, commit with the guard that nothing changed meanwhile, or again.

A job's head (`job/…`) points to an immutable version (`jobver/…`); both are written in one transaction. A spec that
says what the newest version says already writes nothing, so that applying a file twice is free. A job that is deleted
and applied again gets a new uid, and so adopts nothing of the old one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from controller.api import audit, views, writing
from controller.api.deps import ApiDeps
from controller.api.etags import Precondition
from controller.api.problems import CONFLICT, INVALID_SPEC, JOB_DELETING, Refused, not_found
from controller.store.protocol import Absent, Guard, KeyValue, Put, Unchanged
from moorage.model import (
    Job,
    JobVersion,
    SpecError,
    canonical_json,
    decode_version,
    encode_version,
    parse_job,
    template_hashes,
)
from moorage.model.view import JobView, ProblemError
from moorage.wire import keys, store_pb2


@dataclass(frozen=True, slots=True)
class Stored:
    """A job as the store has it. `record` is its newest version as it was encoded."""

    revision: int
    head: store_pb2.Job
    record: bytes

    def version(self) -> JobVersion | None:
        """None where only another release can read it."""
        try:
            return decode_version(self.record)
        except SpecError:
            return None

    def canonical(self) -> bytes:
        """In the words of this release, whichever one wrote it; empty where it has none for it."""
        version = self.version()
        return canonical_json(version.spec) if version is not None else b""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to."""

    view: JobView
    action: Literal["created", "updated", "unchanged"]

    @property
    def created(self) -> bool:
        return self.action == "created"


Change = Callable[[Stored | None], Job]
"""From what is stored to what is wanted. May raise Refused."""


def parse(data: dict[str, Any], name: str) -> Job:
    """The body of a PUT. Raises Refused (`invalid_spec`) with every error."""
    try:
        job = parse_job(data | {"name": data.get("name", name)})
    except SpecError as error:
        raise refused_spec(error) from None
    if job.name != name:
        fault = ProblemError(path="name", message=f"is {job.name!r}, but the URL says {name!r}", suggestion=name)
        raise Refused(INVALID_SPEC, "The name in the body is not the one in the URL.", errors=[fault])
    return job


def refused_spec(error: SpecError) -> Refused:
    errors = [ProblemError(path=e.path, message=e.message, suggestion=e.suggestion) for e in error.errors]
    first = f"{errors[0].path}: {errors[0].message}" if errors and errors[0].path else str(error)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Refused(INVALID_SPEC, f"{first}{more}", errors=errors)


async def load(deps: ApiDeps, project: str, name: str) -> Stored | None:
    kv = await writing.get(deps, keys.job(project, name))
    if kv is None:
        return None
    head = store_pb2.Job.FromString(kv.value)
    version = await _version(deps, head.uid, head.version)
    return Stored(kv.revision, head, version.value) if version is not None else None


async def _version(deps: ApiDeps, uid: str, number: int) -> KeyValue | None:
    """Versions never change, so the cache is as good as the store where it has one."""
    key = keys.job_version(uid, number)
    return deps.cache.get(key) or await writing.get(deps, key)


async def write(
    deps: ApiDeps, project: str, name: str, principal: str, precondition: Precondition, change: Change
) -> Written:
    """One new version, or nothing where the spec stays as it is. Raises Refused: 409, 412, 503, 507."""
    stored: Stored | None = None
    for _ in range(writing.ATTEMPTS):
        stored = await load(deps, project, name)
        precondition.check(f"Job {name!r}", stored.revision if stored is not None else None)
        if stored is not None and stored.head.deleting:
            raise _deleting(name)
        job = change(stored)
        if stored is not None and canonical_json(job) == stored.canonical():
            return Written(view(deps, project, name, stored), "unchanged")
        if (written := await _commit(deps, project, name, principal, stored, job)) is not None:
            return written
    raise _conflict(name, stored)


async def _commit(
    deps: ApiDeps, project: str, name: str, principal: str, stored: Stored | None, job: Job
) -> Written | None:
    now_ms = deps.clock.now_ms()
    head = _next_head(deps, stored, principal, now_ms)
    hashes = template_hashes(job, stored.version() if stored is not None else None)
    record = encode_version(JobVersion(job, hashes, principal, now_ms))
    job_key, version_key = keys.job(project, name), keys.job_version(head.uid, head.version)
    guard: Guard = Unchanged(job_key, stored.revision) if stored is not None else Absent(job_key)
    operations = [Put(version_key, record), Put(job_key, head.SerializeToString())]
    before = views.spec_of(stored.record) if stored is not None else None
    kind, message = audit.job_change(before, views.spec_of(record), head.version)
    noted = deps.audit.note(principal, f"job/{name}", kind, message, project)
    revision = await writing.commit(deps, [guard, Absent(version_key)], operations, noted)
    if revision is None:
        return None
    written = view(deps, project, name, Stored(revision, head, record))
    return Written(written, "created" if stored is None else "updated")


def _next_head(deps: ApiDeps, stored: Stored | None, principal: str, now_ms: int) -> store_pb2.Job:
    head = store_pb2.Job()
    if stored is None:
        head.uid, head.created_ms = deps.new_id(), now_ms
    else:
        head.CopyFrom(stored.head)
    head.version += 1
    head.changed_ms = now_ms
    head.principal = principal
    return head


async def delete(deps: ApiDeps, project: str, name: str, principal: str, precondition: Precondition) -> JobView:
    """Mark for deletion: the leader stops what runs, then removes the job. Twice is once."""
    stored: Stored | None = None
    for _ in range(writing.ATTEMPTS):
        stored = await load(deps, project, name)
        precondition.check(f"Job {name!r}", stored.revision if stored is not None else None)
        if stored is None:
            raise not_found("job", name)
        if stored.head.deleting:
            return view(deps, project, name, stored)
        head = store_pb2.Job()
        head.CopyFrom(stored.head)
        head.deleting, head.principal, head.changed_ms = True, principal, deps.clock.now_ms()
        key = keys.job(project, name)
        noted = deps.audit.note(principal, f"job/{name}", "deleted", "is to be deleted", project)
        written = [Put(key, head.SerializeToString())]
        revision = await writing.commit(deps, [Unchanged(key, stored.revision)], written, noted)
        if revision is not None:
            return view(deps, project, name, Stored(revision, head, stored.record))
    raise _conflict(name, stored)


def scaled(name: str, group: str, count: int) -> Change:
    """The stored spec with another count of one group."""

    def change(stored: Stored | None) -> Job:
        if stored is None:
            raise not_found("job", name)
        spec = json.loads(stored.canonical() or b"null")
        if spec is None:
            raise Refused(
                INVALID_SPEC,
                f"Version {stored.head.version} of job {name!r} cannot be read by this release.",
                hint="Apply the whole job anew.",
            )
        groups: dict[str, Any] = spec["groups"]
        if group not in groups:
            raise not_found("group", group, hint=f"Job {name!r} has: {', '.join(sorted(groups))}.")
        groups[group]["count"] = count
        try:
            return parse_job(spec)
        except SpecError as error:
            raise refused_spec(error) from None

    return change


def view(deps: ApiDeps, project: str, name: str, stored: Stored) -> JobView:
    spec, state = views.spec_of(stored.record), deps.cache.job_state(stored.head.uid)
    return views.job_view(project, name, stored.revision, stored.head, spec, state)


def _deleting(name: str) -> Refused:
    return Refused(
        JOB_DELETING,
        f"Job {name!r} is being deleted.",
        hint="Wait until it is gone (`moor get jobs -w`), then apply it again: it will be a new job.",
    )


def _conflict(name: str, stored: Stored | None) -> Refused:
    revision = stored.revision if stored is not None else 0
    return Refused(CONFLICT, f"Others keep changing job {name!r}, which was at revision {revision} just now.")
