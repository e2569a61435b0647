"""Small pieces that the tests of the agent are made of."""

from __future__ import annotations

from agent.drivers.protocol import Exit, Handle, Observed, TaskId
from agent.state import Presence, Run, Seen, State, TaskSeen
from moorage.wire.keys import AllocKey
from moorage.wire.session_pb2 import Assignment
from moorage.wire.spec_pb2 import BACKOFF_EXPONENTIAL, ContainerSpec, GroupSpec, RestartPolicy, StopPolicy, TaskSpec

NOW = 1_700_000_000_000


def policy(attempts: int = 3, delay_ms: int = 1000, interval_ms: int = 300_000) -> RestartPolicy:
    return RestartPolicy(
        attempts=attempts,
        interval_ms=interval_ms,
        delay_ms=delay_ms,
        max_delay_ms=60_000,
        backoff=BACKOFF_EXPONENTIAL,
    )


def group(*tasks: str, restart: RestartPolicy | None = None) -> GroupSpec:
    return GroupSpec(
        name="web",
        restart=restart or policy(),
        tasks=[
            TaskSpec(
                name=task,
                container=ContainerSpec(image="busybox:1", command=["sleep", "100000"]),
                stop=StopPolicy(signal="TERM", timeout_ms=1000),
            )
            for task in tasks or ("server",)
        ],
    )


def assignment(index: int = 0, attempt: int = 1, spec: GroupSpec | None = None, *, stop: bool = False) -> Assignment:
    key = AllocKey("uid", "web", index, attempt)
    told = Assignment(
        alloc=key.id, project="default", job="shop", job_uid="uid", group="web", index=index, attempt=attempt, version=1
    )
    if stop:
        told.stop, told.stop_reason = True, "scaled down"
    else:
        told.spec.CopyFrom(spec or group())
    return told


def handle(task: str = "server", run: int = 0, alloc: str = "a1") -> Handle:
    return Handle(TaskId(alloc, task, run), "fake", f"{alloc}-{task}-{run}")


def observed(run: int = 0, *, running: bool = True, exit: Exit | None = None) -> Observed:
    return Observed(handle(run=run), running, exit, {}, started_ms=NOW - 5000)


def ended(code: int = 1, at_ms: int = NOW, **more: object) -> Exit:
    return Exit(code, finished_ms=at_ms, **more)  # type: ignore[arg-type]


def seen(**tasks: Presence) -> Seen:
    return Seen({name: TaskSeen(presence, handle(name)) for name, presence in tasks.items()})


def state(**runs: Run) -> State:
    return State(runs=dict(runs))
