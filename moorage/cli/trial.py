"""Whether what has just started also stays up.

A task without a health check counts as healthy as soon as its process runs, which says little: a program that ends at
once has been healthy, too. Who follows a rollout of such tasks therefore looks a moment longer before saying that it
went well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from moorage.cli.text import seconds

if TYPE_CHECKING:
    from moorage.model.view import JobView

MOST_TRIAL_S = 3.0


def trial_s(job: JobView) -> float:
    """How long it has to stay up before it is said to run. What ran before has shown it already."""
    if job.status.phase == "running":
        return 0.0
    waits = [0.0]
    for group in job.spec.get("groups", {}).values():
        if group.get("count", 1) and not all(task.get("health") for task in group.get("tasks", {}).values()):
            update = group.get("update") or job.spec.get("update") or {}
            waits.append(min(seconds(str(update.get("min_healthy", MOST_TRIAL_S))), MOST_TRIAL_S))
    return max(waits)


class Stayed:
    """`settled` is done when everything has been settled for a while without a break."""

    def __init__(self, trial_s: float, elapsed_s: Callable[[], float]) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since_s = 0.0
        self._trial_s = trial_s
        self._elapsed_s = elapsed_s
        self._timer: asyncio.TimerHandle | None = None

    @property
    def on_trial(self) -> bool:
        return self._timer is not None

    def note(self, *, settled: bool, at_once: bool) -> None:
        if self._timer is not None and (at_once or not settled):
            self._timer.cancel()
            self._timer = None
        if not settled or self._timer is not None or self.settled.done():
            return
        self.since_s = self._elapsed_s()
        if at_once or not self._trial_s:
            self.settled.set_result(None)
        else:
            self._timer = asyncio.get_running_loop().call_later(self._trial_s, self.settled.set_result, None)
