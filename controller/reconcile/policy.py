"""One job version as the reconciler needs it: policies for the diff, templates of requests for the scheduler.

Compiled once per version and kept, so that a turn touches no pydantic object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from controller.reconcile.values import GroupPolicy, Reschedule
from moorage.model import UNLIMITED, Group, Job, JobVersion, share_of
from moorage.wire.compile import compile_resources
from moorage.wire.spec_pb2 import Resources
from scheduler.types import Affinity, Constraint, Request, Spread


@dataclass(frozen=True, slots=True)
class Compiled:
    """`requests` lack what differs from turn to turn: indexes, members, nodes to avoid."""

    version: int
    priority: int
    policies: Mapping[str, GroupPolicy]
    requests: Mapping[str, Request]
    resources: Mapping[str, Resources]


def compile_job(uid: str, number: int, version: JobVersion) -> Compiled:
    job = version.spec
    resources = {name: compile_resources(job, name) for name in job.groups}
    return Compiled(
        version=number,
        priority=job.priority,
        policies={name: group_policy(job, name, version.template_hashes[name]) for name in job.groups},
        requests={name: request_of(uid, job, name, resources[name]) for name in job.groups},
        resources=resources,
    )


def group_policy(job: Job, name: str, template_hash: bytes) -> GroupPolicy:
    group, update = job.groups[name], job.update_of(name)
    after = group.disconnect.replace_after
    return GroupPolicy(
        count=group.count,
        template_hash=template_hash,
        max_parallel=share_of(update.max_parallel, group.count),
        min_healthy_ms=update.min_healthy,
        max_unavailable=job.disruption.max_unavailable,
        replace_after_ms=after if after >= 0 else None,
        reschedule=_reschedule(group, update.min_healthy),
    )


def _reschedule(group: Group, min_healthy_ms: int) -> Reschedule:
    policy = group.reschedule
    reset_ms = max(min_healthy_ms, 10 * policy.delay)
    return Reschedule(
        attempts=None if policy.attempts == UNLIMITED else policy.attempts,
        delay_ms=policy.delay,
        exponential=policy.backoff == "exponential",
        max_delay_ms=policy.max_delay,
        never=group.restart.mode == "fail",
        reset_ms=reset_ms,
        outlived_ms=reset_ms + group.restart.interval,
    )


def request_of(uid: str, job: Job, name: str, resources: Resources) -> Request:
    group = job.groups[name]
    return Request(
        job_uid=uid,
        group=name,
        indexes=(),
        cpu_millis=resources.cpu_millis,
        memory_bytes=resources.memory_bytes,
        disk_bytes=resources.disk_bytes,
        pids=resources.pids,
        constraints=[Constraint(c.attribute, c.operator, c.value) for c in job.constraints_of(name)],
        affinity=[Affinity(a.attribute, a.operator, a.value, a.weight) for a in job.affinity_of(name)],
        spread=[Spread(s.attribute, s.targets) for s in group.spread],
        distinct_hosts=group.distinct_hosts,
        host_ports=group.ports if group.networks == "host" else {},
        strategy=group.strategy,
    )


def ask(
    template: Request, indexes: list[int], avoid: Mapping[int, tuple[str, ...]], members: dict[str, int]
) -> Request:
    return replace(template, indexes=indexes, avoid=avoid, members=members)


class CompiledJobs:
    """The newest compiled version of each job."""

    def __init__(self, version: Callable[[str, int], JobVersion | None]) -> None:
        self._version = version
        self._known: dict[str, Compiled] = {}

    def get(self, uid: str, number: int) -> Compiled | None:
        known = self._known.get(uid)
        if known is not None and known.version == number:
            return known
        version = self._version(uid, number)
        if version is None:
            return None
        self._known[uid] = compiled = compile_job(uid, number, version)
        return compiled

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)
