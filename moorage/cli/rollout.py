"""Following jobs until they run as wanted, or until it is clear that they will not.

`judge` looks at one job and says how it stands; `follow` watches the project and asks it at each change. A rollout
counts as failed when every instance that is not healthy has failed as often as its group allows, but at most three
times: the controller goes on trying, but whoever waits should hear of it. An instance that fits nowhere is waited for
until the time is up, and its reason is shown. Tasks without a health check have to stay up for a moment before their
job is said to run.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from moorage.cli import exits, output
from moorage.cli.exits import Failure
from moorage.cli.text import plain
from moorage.cli.trial import Stayed, trial_s
from moorage.cli.watching import states

if TYPE_CHECKING:
    from rich.live import Live

    from moorage.client import Client
    from moorage.model.view import GroupStatusView, JobView

MOST_FAILURES = 3
ON_TRIAL = " (no health check: does it stay up?)"
GOES_ON = "interrupted; the rollout goes on on the server: `moor get jobs -w` follows it"


@dataclass(frozen=True, slots=True)
class Standing:
    state: Literal["done", "going", "failed"]
    words: str
    reason: str = ""  # why it is not as wanted, the last that was heard

    def after(self, before: Standing) -> Standing:
        """What fails and starts again has no reason each time that it starts."""
        return self if self.reason else replace(self, reason=before.reason)

    @property
    def told(self) -> str:
        return f"{self.words} (last: {self.reason})" if self.reason and self.reason not in self.words else self.words


def judge(job: JobView | None, wanted: JobView) -> Standing:
    """How a job stands that was applied as `wanted`."""
    if job is None or job.uid != wanted.uid:
        return Standing("failed", "it was deleted meanwhile")
    if job.status.phase == "deleting":
        return Standing("failed", "it is being deleted")
    words = progress(job)
    if job.version < wanted.version:  # the watch has not caught up with our own write
        return Standing("going", "pending")
    if job.status.phase == "running":
        return Standing("done", words)
    failed = [group for group in job.status.groups if _given_up(group, job.spec)]
    if failed:
        return Standing("failed", f"{job.status.message or words}{_last_failure(job)}")
    return Standing("going", words, plain(job.status.message))


def progress(job: JobView) -> str:
    """ "deploying, web 1/3 healthy; web: 2 of 3 wait: …" """
    groups = ", ".join(
        f"{group.name} {group.healthy}/{group.wanted} healthy{_outdated(group)}" for group in job.status.groups
    )
    return f"{job.status.phase}, {groups}" + (f"; {plain(job.status.message)}" if job.status.message else "")


def _outdated(group: GroupStatusView) -> str:
    """While old ones are still replaced: it takes `min_healthy` for each, in which nothing else changes."""
    return f" ({group.updated} of {group.wanted} renewed)" if group.updated < group.placed else ""


def _given_up(group: GroupStatusView, spec: Mapping[str, Any]) -> bool:
    missing = max(group.wanted - group.healthy, 1)
    return group.failed >= missing * _allowed(spec.get("groups", {}).get(group.name, {}))


def _allowed(group: Mapping[str, Any]) -> int:
    """Failed attempts of one instance after which nobody should wait any longer."""
    if group.get("restart", {}).get("mode") == "fail":
        return 1
    attempts = group.get("reschedule", {}).get("attempts")
    return min(MOST_FAILURES, attempts + 1) if isinstance(attempts, int) else MOST_FAILURES


def _last_failure(job: JobView) -> str:
    found = [event for event in job.status.events if event.kind == "failed" and event.message]
    latest = max(found, key=lambda event: event.at_ms, default=None)
    told = [waiting.reason for group in job.status.groups for waiting in group.waiting if waiting.reason]
    if latest is None or any(reason in latest.message for reason in told) or latest.message in job.status.message:
        return ""
    return f" (last: {plain(latest.message)})"


class Progress:
    """Shows how jobs stand: a live table on a terminal, else a line per change. Use as a context manager."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._told: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(console=output.console(), transient=True, refresh_per_second=8)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def show(self, standings: Mapping[str, str]) -> None:
        if self._live is not None:
            rows = [[name, words] for name, words in standings.items()]
            self._live.update(output.live_table(["JOB", ""], rows, folded=True))
            return
        for name, words in standings.items():
            if self._told.get(name) != words:
                self._told[name] = words
                output.say(f"{self.elapsed_s:6.1f} s  {name}: {words}")
        sys.stdout.flush()


async def follow(client: Client, applied: Iterable[JobView], timeout_s: float) -> None:
    """Returns when all of them run as wanted. Raises Failure (rollout failed, or the time is up)."""
    wanted = {job.name: job for job in applied}
    standings = {name: Standing("going", "pending") for name in wanted}
    with Progress() as shown:
        try:
            async with asyncio.timeout(timeout_s):
                ran_s = await _until_settled(client, wanted, standings, shown)
        except TimeoutError:
            going = "; ".join(f"job {n}: {s.told}" for n, s in standings.items() if s.state == "going")
            name = next(n for n, s in standings.items() if s.state == "going")
            hint = f"the controller goes on trying; `moor explain {name}` and `moor describe job {name}` tell more"
            raise Failure(f"the time is up: {going}", code=exits.TIMEOUT, hint=hint) from None
    failed = {name: f"job {name} failed: {s.words}" for name, s in standings.items() if s.state == "failed"}
    for name, standing in standings.items():
        if standing.state == "done":
            output.say(f"job {name} runs: {standing.words.removeprefix('running, ')} after {ran_s:.1f} s")
    if failed:
        name = next(iter(failed))
        hint = f"`moor describe job {name}` and `moor logs {name}` tell more; the controller goes on trying"
        raise Failure("\n  ".join(failed.values()), code=exits.ROLLOUT_FAILED, hint=hint)


async def _until_settled(
    client: Client, wanted: Mapping[str, JobView], standings: dict[str, Standing], shown: Progress
) -> float:
    """When it was so, in seconds from the beginning."""
    stayed = Stayed(max((trial_s(job) for job in wanted.values()), default=0.0), lambda: shown.elapsed_s)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read(client, wanted, standings, shown, stayed), name="rollout")
        await asyncio.wait([reading, stayed.settled], return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
    return stayed.since_s


async def _read(
    client: Client,
    wanted: Mapping[str, JobView],
    standings: dict[str, Standing],
    shown: Progress,
    stayed: Stayed,
) -> None:
    async with aclosing(states(client.watch_jobs(), lambda job: job.name)) as found:
        async for jobs in found:
            for name, job in wanted.items():
                standings[name] = judge(jobs.get(name), job).after(standings[name])
            told = {standing.state for standing in standings.values()}
            stayed.note(settled="going" not in told, at_once="failed" in told)
            on_trial = {name for name, job in wanted.items() if stayed.on_trial and trial_s(job)}
            shown.show({name: s.words + (ON_TRIAL if name in on_trial else "") for name, s in standings.items()})
