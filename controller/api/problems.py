"""Every refusal of the API: one permanent code each, as RFC 9457 problem details.

Programs decide by `code`, people read `detail` and `hint`. A code is never renamed nor given another meaning; titles
and details may be worded anew. `Refused` is raised wherever a request cannot go on and becomes the response here.
"""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from moorage.model.view import Problem, ProblemError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Code:
    name: str
    status: int
    title: str


BAD_JSON = Code("bad_json", 400, "The body is not acceptable JSON")
UNAUTHENTICATED = Code("unauthenticated", 401, "A valid token is needed")
FORBIDDEN = Code("forbidden", 403, "The token does not allow this")
NOT_FOUND = Code("not_found", 404, "There is no such thing")
METHOD_NOT_ALLOWED = Code("method_not_allowed", 405, "The method is not allowed here")
CONFLICT = Code("conflict", 409, "Somebody else wrote at the same time")
JOB_DELETING = Code("job_deleting", 409, "The job is being deleted")
NODE_NOT_LOST = Code("node_not_lost", 409, "The node is not lost")
AMBIGUOUS_ID = Code("ambiguous_id", 409, "The id is ambiguous")
PRECONDITION_FAILED = Code("precondition_failed", 412, "The object has another revision")
TOO_LARGE = Code("too_large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = Code("unsupported_media_type", 415, "The body must be application/json")
INVALID_SPEC = Code("invalid_spec", 422, "The specification is not valid")
INVALID_REQUEST = Code("invalid_request", 422, "The request is not valid")
INTERNAL_ERROR = Code("internal_error", 500, "The controller failed")
LOGS_FAILED = Code("logs_failed", 502, "The logs cannot be read further")
STORE_UNAVAILABLE = Code("store_unavailable", 503, "The store does not answer")
NOT_SYNCED = Code("not_synced", 503, "The controller has not read the store yet")
NOT_LEADING = Code("not_leading", 503, "Another controller leads")
NODE_UNREACHABLE = Code("node_unreachable", 503, "The node cannot be reached")
STORE_FULL = Code("store_full", 507, "The store is full")

RETRY_AFTER_S = {STORE_UNAVAILABLE.name: 2, NOT_SYNCED.name: 1, NOT_LEADING.name: 1, NODE_UNREACHABLE.name: 5}
LEADER_HEADER = "Moor-Leader"
"""Names the leader's API on a `not_leading`, so that a client can ask there."""


class Refused(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        hint: str = "",
        errors: Sequence[ProblemError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def problem(self) -> Problem:
        code = self.code
        return Problem(
            title=code.title,
            status=code.status,
            code=code.name,
            detail=self.detail,
            hint=self.hint,
            errors=self.errors,
        )

    def response(self) -> Response:
        headers = dict(self.headers)
        if (seconds := RETRY_AFTER_S.get(self.code.name)) is not None:
            headers.setdefault("Retry-After", str(seconds))
        return Response(
            json_bytes(self.problem()), status_code=self.code.status, media_type=MEDIA_TYPE, headers=headers
        )


def json_bytes(problem: Problem) -> bytes:
    return problem.model_dump_json().encode()


def not_found(what: str, name: str, hint: str = "") -> Refused:
    return Refused(NOT_FOUND, f"There is no {what} {name!r}.", hint=hint)


def invalid(path: str, message: str, suggestion: str = "") -> Refused:
    """One wrong query parameter, header or field outside of a specification."""
    error = ProblemError(path=path, message=message, suggestion=suggestion)
    return Refused(INVALID_REQUEST, f"{path}: {message}", errors=[error])


def documented(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these codes, besides those that any call may be answered with."""
    by_status: dict[int | str, list[Code]] = {}
    for code in (UNAUTHENTICATED, FORBIDDEN, INVALID_REQUEST, NOT_SYNCED, *codes):
        by_status.setdefault(code.status, []).append(code)
    return {status: described(status, group) for status, group in sorted(by_status.items(), key=lambda i: int(i[0]))}


def described(status: int | str, codes: Iterable[Code]) -> dict[str, Any]:
    names = ", ".join(dict.fromkeys(f"`{code.name}`" for code in codes))
    response: dict[str, Any] = {
        "description": f"{http.HTTPStatus(int(status)).phrase}: {names}",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if int(status) == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    if int(status) == 503:
        response["headers"] = {"Retry-After": {"schema": {"type": "string"}, "required": True}}
    return response
