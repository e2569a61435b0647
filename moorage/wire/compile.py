"""A job version, compiled into what agents run: the one place where the model and the wire meet.

Nothing is expanded here: $MOOR_… stays in env and commands, and ports that are chosen at placement stay 0; the agent
fills both in, for it alone knows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from moorage.wire import spec_pb2 as wire

if TYPE_CHECKING:
    from moorage.model.container import Container
    from moorage.model.group import Task
    from moorage.model.health import Health
    from moorage.model.job import Job
    from moorage.model.policies import Disconnect, Restart
    from moorage.model.resources import Resources
    from moorage.model.version import JobVersion

_NETWORKS = {"none": wire.NETWORK_NONE, "host": wire.NETWORK_HOST}
_PULL = {"if_missing": wire.PULL_IF_MISSING, "always": wire.PULL_ALWAYS, "never": wire.PULL_NEVER}
_BACKOFF = {"constant": wire.BACKOFF_CONSTANT, "exponential": wire.BACKOFF_EXPONENTIAL}
_MODES = {"replace": wire.RestartPolicy.REPLACE, "fail": wire.RestartPolicy.FAIL}


def compile_group(version: JobVersion, group: str) -> wire.GroupSpec:
    """Raises KeyError where the version has no such group. Tasks and ports come in order of name."""
    spec = version.spec.groups[group]
    return wire.GroupSpec(
        name=group,
        network=_NETWORKS[spec.networks],
        ports=[wire.Port(name=name, number=number) for name, number in sorted(spec.ports.items())],
        tasks=[_task(name, task) for name, task in sorted(spec.tasks.items())],
        restart=_restart(spec.restart),
        disconnect=_disconnect(spec.disconnect),
        shutdown_delay_ms=spec.shutdown_delay,
        template_hash=version.template_hashes[group],
    )


def compile_resources(job: Job, group: str) -> wire.Resources:
    """Of the whole group: the sum over its tasks."""
    return _sum(task.resources for task in job.groups[group].tasks.values())


def _sum(parts: Iterable[Resources]) -> wire.Resources:
    total = wire.Resources()
    for part in parts:
        total.cpu_millis += part.cpu
        total.cpu_limit_millis += part.cpu_limit
        total.memory_bytes += part.memory
        total.memory_limit_bytes += part.memory_limit
        total.disk_bytes += part.disk
        total.pids += part.pids
    return total


def _task(name: str, task: Task) -> wire.TaskSpec:
    return wire.TaskSpec(
        name=name,
        container=_container(task.container),
        env=task.env,
        resources=_sum([task.resources]),
        health=_health(task.health) if task.health is not None else None,
        stop=wire.StopPolicy(signal=task.stop.signal, timeout_ms=task.stop.timeout),
        logs=wire.LogPolicy(max_size_bytes=task.logs.max_size, max_files=task.logs.max_files),
    )


def _container(container: Container) -> wire.ContainerSpec:
    return wire.ContainerSpec(
        image=container.image,
        pull=_PULL[container.pull],
        entrypoint=container.entrypoint or (),
        entrypoint_set=container.entrypoint is not None,
        command=container.command,
        user=container.user,
        workdir=container.workdir or "",
        read_only_root=container.read_only_root,
        capabilities_add=container.capabilities.add,
        capabilities_drop=container.capabilities.drop,
        ulimits=container.ulimits,
        sysctls=container.sysctls,
        shm_bytes=container.shm,
        hosts=container.hosts,
    )


def _health(health: Health) -> wire.HealthCheck:
    check = wire.HealthCheck(
        interval_ms=health.interval, timeout_ms=health.timeout, start_ms=health.start, failures=health.failures
    )
    if health.http is not None:
        check.http.CopyFrom(wire.HttpProbe(port=health.http.port, path=health.http.path, status=health.http.status))
    elif health.tcp is not None:
        check.tcp.CopyFrom(wire.TcpProbe(port=health.tcp.port))
    elif health.exec is not None:
        check.exec.CopyFrom(wire.ExecProbe(command=health.exec.command))
    return check


def _restart(restart: Restart) -> wire.RestartPolicy:
    return wire.RestartPolicy(
        attempts=restart.attempts,
        interval_ms=restart.interval,
        delay_ms=restart.delay,
        backoff=_BACKOFF[restart.backoff],
        max_delay_ms=restart.max_delay,
        mode=_MODES[restart.mode],
    )


def _disconnect(disconnect: Disconnect) -> wire.Disconnect:
    return wire.Disconnect(
        replace_after_ms=disconnect.replace_after, stop_on_node_after_ms=disconnect.stop_on_node_after
    )
