"""What a call may end with besides its result."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import ValidationError

from moorage.model.view import Problem

LEADER_HEADER = "moor-leader"


class ClientError(Exception):
    """Base of what the client raises."""


class Unreachable(ClientError):
    """No answer: nothing listens there, the name is unknown, the connection broke or timed out."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} cannot be reached: {reason}")
        self.url = url
        self.reason = reason


class ApiProblem(ClientError):
    """The API refused. Decide by `problem.code`; `leader_url` is set where only the leader can do it."""

    def __init__(self, problem: Problem, *, leader_url: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.leader_url = leader_url
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str:
        return self.problem.code


def problem_of(status: int, body: bytes) -> Problem:
    """The problem in an answer; one made up where something else than the API answered (a proxy, say)."""
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown status"
        detail = f"The answer was {status} {title}, and not in the API's words. Is the URL that of a controller?"
        return Problem(title=title, status=status, code=f"http_{status}", detail=detail)


def refusal(status: int, headers: dict[str, str], body: bytes) -> ApiProblem:
    """`headers` by lower-case name."""
    seconds = headers.get("retry-after", "")
    return ApiProblem(
        problem_of(status, body),
        leader_url=headers.get(LEADER_HEADER, ""),
        retry_after_s=float(seconds) if seconds.isdigit() else None,
    )
