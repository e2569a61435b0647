"""From a command to the API and back: the client for a target, and its refusals in the command's words."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from moorage.cli import exits
from moorage.cli.exits import Failure
from moorage.cli.target import Surroundings, Target, resolve

# httpx would bring in its own command line, and with it click, pygments and rich's progress bars: 0.2 s for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

from moorage.client import ApiProblem, Client, Unreachable  # noqa: E402

if TYPE_CHECKING:
    from moorage.model.view import Problem, ProblemError

T = TypeVar("T")
PATIENCE_S = 15.0
PAUSE_S = 1.0
NEW_TOKEN = "`moor login` saves another one; `moor context list` shows which controller is meant"

_CODES = {
    400: exits.INVALID,
    401: exits.FORBIDDEN,
    403: exits.FORBIDDEN,
    404: exits.NOT_FOUND,
    409: exits.CONFLICT,
    412: exits.CONFLICT,
    413: exits.INVALID,
    415: exits.INVALID,
    422: exits.INVALID,
}


def target_of(ctx: typer.Context, context: str | None = None, project: str | None = None) -> Target:
    return resolve(_surroundings(ctx).environ, context, project)


def call(ctx: typer.Context, target: Target, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do `work` with a client for the target. Raises Failure for every trouble with the API."""
    if not target.token:
        hint = "`moor login` saves one; $MOOR_TOKEN gives one for this call"
        raise Failure(f"there is no token for {target.url}", code=exits.FORBIDDEN, hint=hint)
    try:
        return asyncio.run(_with_client(ctx, target, work))
    except (ApiProblem, Unreachable) as error:
        raise failure_of(error) from error
    except ExceptionGroup as group:
        raise _first(group) from group


def follow(ctx: typer.Context, target: Target, work: Callable[[Client], Awaitable[T]]) -> T:
    """As `call`, for what goes on until the user has seen enough: Ctrl-C is its ordinary end, and needs no words."""
    try:
        return call(ctx, target, work)
    except KeyboardInterrupt:
        raise Failure("", code=exits.INTERRUPTED) from None


async def patiently(send: Callable[[], Awaitable[T]]) -> T:
    """A write that may be repeated, while the store is away for a moment: an etcd that starts again, say."""
    until = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            return await send()
        except ApiProblem as error:
            pause = min(error.retry_after_s or 1.0, PAUSE_S)
            if error.problem.status != 503 or time.monotonic() + pause > until:
                raise
            if not told:
                told = True
                sys.stderr.write(f"moor: {_sentence(error.problem)}; trying again for {PATIENCE_S:g} s\n")
            await asyncio.sleep(pause)


async def _with_client(ctx: typer.Context, target: Target, work: Callable[[Client], Awaitable[T]]) -> T:
    transport = _surroundings(ctx).transport
    async with Client(target.url, target.token, target.project, transport=transport) as client:
        return await work(client)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Of several tasks that failed together, what the first one has to say."""
    error = group.exceptions[0]
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return failure_of(error) if isinstance(error, (ApiProblem, Unreachable)) else error


def failure_of(error: ApiProblem | Unreachable, about: str = "") -> Failure:
    """`about` goes before the sentence: "job hello"."""
    before = f"{about}: " if about else ""
    if isinstance(error, Unreachable):
        hint = "is it running? `moor context list` shows which controller is meant"
        return Failure(f"{before}{error}", code=exits.UNREACHABLE, hint=hint)
    problem = error.problem
    code = _CODES.get(problem.status, exits.UNREACHABLE)
    hint = NEW_TOKEN if problem.status == 401 else problem.hint
    return Failure(f"{before}{_sentence(problem)}", code=code, hint=hint)


def _sentence(problem: Problem) -> str:
    if len(problem.errors) < 2:
        advice = "".join(_advice(one) for one in problem.errors if one.suggestion not in problem.detail)
        return _as_part((problem.detail or problem.title).rstrip(".")) + advice
    lines = [f"{one.path}: {one.message}{_advice(one)}" for one in problem.errors]
    return "\n  ".join([_as_part(problem.title), *lines])


def _advice(error: ProblemError) -> str:
    return f" ({error.suggestion})" if error.suggestion else ""


def _as_part(sentence: str) -> str:
    """To go on after "moor: "; "URL …" and the like stay as they are."""
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() or sentence[1:2] == " " else sentence


def _surroundings(ctx: typer.Context) -> Surroundings:
    found = ctx.obj
    assert isinstance(found, Surroundings)
    return found
