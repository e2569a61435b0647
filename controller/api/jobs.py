"""/v1/projects/{project}/jobs"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.api import jobwrites, paging, selectors, views
from controller.api.body import read_model, read_object
from controller.api.deps import ApiDeps, Deps, Member, Name
from controller.api.etags import Preconditions, etag
from controller.api.openapi import body, job_body, stream, tagged
from controller.api.paging import Paged
from controller.api.problems import (
    BAD_JSON,
    CONFLICT,
    INVALID_SPEC,
    JOB_DELETING,
    NOT_FOUND,
    PRECONDITION_FAILED,
    STORE_FULL,
    STORE_UNAVAILABLE,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    documented,
    not_found,
)
from controller.api.watch import WatchResponse
from controller.reconcile import describe_plan, explain
from moorage.model.group import MAX_COUNT
from moorage.model.view import ExplainView, JobVersionView, JobView, ListView, PlanView
from moorage.wire import keys

if TYPE_CHECKING:
    from controller.cache import Change
    from controller.cache.entries import JobEntry

router = APIRouter(tags=["jobs"])
JOBS = "/v1/projects/{project}/jobs"
JOB = JOBS + "/{name}"

Labels = Annotated[str | None, Query(max_length=1024, description="a=b,c!=d,e,!f: all must hold")]
Watch = Annotated[bool, Query(description="a stream of changes (NDJSON) instead of a page")]

BODY_PROBLEMS = (BAD_JSON, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
WRITE_PROBLEMS = (CONFLICT, PRECONDITION_FAILED, STORE_UNAVAILABLE, STORE_FULL)


class Scale(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    group: str
    count: int = Field(ge=0, le=MAX_COUNT)


@router.get(JOBS, response_model=ListView[JobView], responses=stream(JobView) | documented())
async def list_jobs(
    deps: Deps, peer: Member, project: Name, page: Paged, labels: Labels = None, watch: Watch = False
) -> Response:
    """Jobs of a project, by name."""
    selector = selectors.parse(labels)
    if watch:
        return WatchResponse(deps, JobFeed(deps, project, selector))
    revision = deps.cache.revision
    keep = (lambda job: selected(deps, job, selector)) if selector else None
    cut = await paging.cut(deps.cache.jobs(project), page, lambda job: (job.name,), keep)
    return await paging.rendered(cut, lambda job: view(deps, job), revision)


@router.get(JOB, response_model=JobView, responses=tagged() | documented(NOT_FOUND))
async def get_job(deps: Deps, peer: Member, project: Name, name: Name) -> Response:
    return answer(view(deps, existing(deps, project, name)))


@router.put(
    JOB,
    response_model=JobView,
    responses=tagged(200, 201, model=JobView) | documented(JOB_DELETING, INVALID_SPEC, *BODY_PROBLEMS, *WRITE_PROBLEMS),
    openapi_extra=job_body(),
)
async def put_job(
    deps: Deps, peer: Member, project: Name, name: Name, precondition: Preconditions, request: Request
) -> Response:
    """Create or change a job. The same body again changes nothing and keeps the revision."""
    job = jobwrites.parse(await read_object(request), name)
    written = await jobwrites.write(deps, project, name, peer.principal, precondition, lambda _: job)
    response = answer(written.view, 201 if written.created else 200)
    response.headers["Moor-Action"] = written.action
    return response


@router.delete(
    JOB,
    status_code=202,
    response_model=JobView,
    responses=tagged(202, model=JobView) | documented(NOT_FOUND, *WRITE_PROBLEMS),
)
async def delete_job(deps: Deps, peer: Member, project: Name, name: Name, precondition: Preconditions) -> Response:
    """Stop and forget a job. It stays visible as `deleting` until everything of it has ended."""
    return answer(await jobwrites.delete(deps, project, name, peer.principal, precondition), 202)


@router.post(
    JOB + "/scale",
    response_model=JobView,
    responses=tagged(200, model=JobView)
    | documented(NOT_FOUND, JOB_DELETING, INVALID_SPEC, *BODY_PROBLEMS, *WRITE_PROBLEMS),
    openapi_extra=body(Scale),
)
async def scale_job(
    deps: Deps, peer: Member, project: Name, name: Name, precondition: Preconditions, request: Request
) -> Response:
    """Another count for one group; everything else stays as it is."""
    wanted = await read_model(request, Scale)
    change = jobwrites.scaled(name, wanted.group, wanted.count)
    written = await jobwrites.write(deps, project, name, peer.principal, precondition, change)
    return answer(written.view)


@router.post(
    JOB + "/plan",
    response_model=PlanView,
    responses=documented(INVALID_SPEC, *BODY_PROBLEMS),
    openapi_extra=job_body(),
)
async def plan_job(deps: Deps, peer: Member, project: Name, name: Name, request: Request) -> PlanView:
    """What a PUT of this body would do. Writes nothing."""
    new = jobwrites.parse(await read_object(request), name)
    entry = deps.cache.job(project, name)
    version = deps.cache.version(entry.uid, entry.version) if entry is not None else None
    return describe_plan(deps.cache, project, version.spec if version is not None else None, new)


@router.get(JOB + "/explain", response_model=ExplainView, responses=documented(NOT_FOUND))
async def explain_job(deps: Deps, peer: Member, project: Name, name: Name) -> ExplainView:
    """Why each slot is where it is, or what it waits for."""
    existing(deps, project, name)
    return explain(deps.cache, project, name)


@router.get(JOB + "/versions", response_model=ListView[JobVersionView], responses=documented(NOT_FOUND))
async def list_versions(deps: Deps, peer: Member, project: Name, name: Name, page: Paged) -> Response:
    """Versions that are still kept, newest first."""
    job = existing(deps, project, name)
    revision = deps.cache.revision
    kept = [n for n in range(job.version, 0, -1) if record(deps, job, n) is not None]
    cut = await paging.cut(kept, page, lambda n: (-n,))
    return await paging.rendered(cut, lambda n: version_view(deps, job, n), revision)


@router.get(JOB + "/versions/{version}", response_model=JobVersionView, responses=documented(NOT_FOUND))
async def get_version(
    deps: Deps, peer: Member, project: Name, name: Name, version: Annotated[int, Path(ge=1, le=2**32 - 1)]
) -> Response:
    job = existing(deps, project, name)
    if record(deps, job, version) is None:
        raise not_found(
            "version", str(version), hint=f"The current one is {job.version}; old ones are removed in time."
        )
    return answer(version_view(deps, job, version))


class JobFeed:
    """Jobs of one project for one watcher; a job is told again when the leader's view of it changed."""

    def __init__(self, deps: ApiDeps, project: str, selector: selectors.Selector) -> None:
        self._deps = deps
        self._project = project
        self._selector = selector

    def names(self) -> Iterable[str]:
        return sorted(job.name for job in self._deps.cache.jobs(self._project))

    def touched(self, change: Change) -> Iterable[str]:
        if change.kind == "job":
            project, name = change.key[len(keys.JOBS) :].split("/")
            return (name,) if project == self._project else ()
        if change.kind == "jobstate":
            job = self._deps.cache.job_by_uid(change.key[len(keys.JOB_STATES) :])
            return (job.name,) if job is not None and job.project == self._project else ()
        return ()

    def view(self, name: str) -> JobView | None:
        job = self._deps.cache.job(self._project, name)
        if job is None or (self._selector and not selected(self._deps, job, self._selector)):
            return None
        return view(self._deps, job)


def existing(deps: ApiDeps, project: str, name: str) -> JobEntry:
    job = deps.cache.job(project, name)
    if job is None:
        raise not_found("job", name, hint=f"In project {project!r}.")
    return job


def record(deps: ApiDeps, job: JobEntry, version: int) -> bytes | None:
    kv = deps.cache.get(keys.job_version(job.uid, version))
    return kv.value if kv is not None else None


def spec(deps: ApiDeps, job: JobEntry) -> dict[str, Any]:
    stored = record(deps, job, job.version)
    return views.spec_of(stored) if stored is not None else {}


def selected(deps: ApiDeps, job: JobEntry, selector: selectors.Selector) -> bool:
    labels = spec(deps, job).get("labels")
    return selector.matches(labels if isinstance(labels, dict) else {})


def view(deps: ApiDeps, job: JobEntry) -> JobView:
    state = deps.cache.job_state(job.uid)
    return views.job_view(job.project, job.name, job.revision, job.decode(), spec(deps, job), state)


def version_view(deps: ApiDeps, job: JobEntry, version: int) -> JobVersionView:
    stored = record(deps, job, version)
    if stored is None:
        raise not_found("version", str(version))
    return views.version_view(job.project, job.name, job.decode(), version, stored)


def answer(view: JobView | JobVersionView, status: int = 200) -> Response:
    headers = {"ETag": etag(view.revision)} if isinstance(view, JobView) else None
    return Response(view.model_dump_json(), status, headers, "application/json")
