"""What happens by itself: restart on the node, move to another, partition, rolling update, disruption, stop, logs.

None of them is part of a task's template: changing one never restarts what runs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from moorage.model.base import Base, Problem, is_stored, only, problems
from moorage.model.fields import Attempts, Bytes, Duration, DurationOrNever, PositiveDuration, Share, Signal
from moorage.model.quantities import NEVER, UNLIMITED, format_duration

Backoff = Literal["constant", "exponential"]


class Paced(Base):
    """Waits grow from `delay` to `max_delay`."""

    delay: Duration
    """The first wait."""
    backoff: Backoff = "exponential"
    """Whether the wait doubles each time."""
    max_delay: Duration
    """The longest wait."""

    @model_validator(mode="after")
    def _delays_in_order(self, info: ValidationInfo) -> Any:
        if self.max_delay < self.delay and not is_stored(info):
            delay, most = format_duration(self.delay), format_duration(self.max_delay)
            raise problems([Problem(("max_delay",), f"{most} is less than delay, which is {delay}")])
        return self


class Restart(Paced):
    """On the node: at most `attempts` restarts within `interval`, then the allocation has failed."""

    attempts: Annotated[int, Field(ge=0, le=1000)] = 3
    """Restarts of one task within `interval`, at most."""
    interval: PositiveDuration = 300_000
    """The time in which restarts are counted."""
    delay: Duration = 1_000
    max_delay: Duration = 60_000
    mode: Literal["replace", "fail"] = "replace"
    """Then: replace it by a new attempt, or leave it failed."""


class Reschedule(Paced):
    """To another node, after the allocation has failed there."""

    attempts: Attempts = UNLIMITED
    """Failures in a row after which a slot is left alone."""
    delay: Duration = 5_000
    max_delay: Duration = 600_000


class Disconnect(Base):
    """A partition, seen from both sides."""

    replace_after: Duration = 30_000
    """So long after its node was lost, an instance is replaced elsewhere."""
    stop_on_node_after: DurationOrNever = NEVER
    """So long without the controller, the node stops it by itself."""


class Update(Base):
    """How a changed template is rolled out."""

    max_parallel: Share = 1
    """Instances replaced at a time: a number, or a percentage of the count."""
    min_healthy: Duration = 10_000
    """Healthy for so long counts as healthy."""
    healthy_deadline: PositiveDuration = 300_000
    """For each instance."""
    progress_deadline: Annotated[Duration, only(600_000, "a progress_deadline other than 10m is")] = 600_000
    """Anything but the default is not yet supported."""
    canary: Annotated[int, only(0, "canary is")] = 0
    """Not yet supported."""
    auto_promote: Annotated[bool, only(False, "auto_promote is")] = False
    """Not yet supported."""
    auto_revert: Annotated[bool, only(False, "auto_revert is")] = False
    """Not yet supported."""
    surge: Annotated[int, only(0, "surge is")] = 0
    """Not yet supported."""


class Disruption(Base):
    """What drains and the like keep to."""

    max_unavailable: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Instances of each group that may be away at a time."""


class Stop(Base):
    """How a task is ended: a signal, a wait, then it is killed."""

    signal: Signal = "TERM"
    """TERM, INT, QUIT, …"""
    timeout: Duration = 10_000
    """How long it may take to end by itself."""


class Logs(Base):
    """How much of a task's output is kept on its node."""

    max_size: Annotated[Bytes, Field(ge=4096)] = 10 << 20
    """Of one file."""
    max_files: Annotated[int, Field(ge=1, le=100)] = 3
    """The oldest goes when one more is begun."""
