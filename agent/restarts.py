"""Restart policy of a task on its node, as arithmetic over when it was restarted before."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.kit.backoff import delay_ms
from moorage.wire.spec_pb2 import BACKOFF_EXPONENTIAL, RestartPolicy


def recent(policy: RestartPolicy, restarts: Sequence[int], now_ms: int) -> list[int]:
    """The restarts that still count."""
    return [at for at in restarts if at > now_ms - policy.interval_ms]


def restart_at_ms(policy: RestartPolicy, restarts: Sequence[int], ended_ms: int, now_ms: int) -> int | None:
    """When a task that ended at `ended_ms` is to be started again; None: its restarts are used up."""
    count = len(recent(policy, restarts, now_ms))
    if count >= policy.attempts:
        return None
    wait = delay_ms(
        count + 1,
        base_ms=policy.delay_ms,
        cap_ms=max(policy.max_delay_ms, policy.delay_ms),
        exponential=policy.backoff == BACKOFF_EXPONENTIAL,
    )
    return ended_ms + wait
