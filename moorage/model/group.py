"""Group and task: what is placed together, and what runs in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from moorage.model.base import Base, Problem, is_stored, not_yet, only, problems
from moorage.model.constraints import Affinities, Constraints, Spreads
from moorage.model.container import Container
from moorage.model.fields import AUTO, Duration, EnvName, EnvValue, Name, Port
from moorage.model.health import Health
from moorage.model.policies import Disconnect, Logs, Reschedule, Restart, Stop, Update
from moorage.model.resources import Resources
from moorage.model.suggest import did_you_mean

MAX_COUNT = 10_000
MAX_TASKS = 32


def _read_networks(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        raise not_yet("a list of networks is", "write networks: host, or networks: none")
    return value


Networks = Annotated[
    Literal["host", "none"], BeforeValidator(_read_networks), WithJsonSchema({"enum": ["host", "none"]})
]


class Task(Base):
    """A container of a group."""

    order: Annotated[str, only("main", "an order other than main is")] = "main"
    """Anything but the default is not yet supported."""
    leader: Annotated[bool, only(False, "leader is")] = False
    """Not yet supported."""
    container: Container
    env: dict[EnvName, EnvValue] = Field(default_factory=dict)
    """Environment variables. $MOOR_JOB, GROUP, TASK, ALLOC, INDEX, NODE, PROJECT and PORT_<port> are filled in."""
    resources: Resources = Resources.model_construct(
        cpu=100, cpu_limit=100, memory=128 << 20, memory_limit=128 << 20, disk=0, pids=512
    )
    health: Health | None = None
    stop: Stop = Stop()
    logs: Logs = Logs()


class Group(Base):
    """The unit of placement: its tasks run on one node and share one network namespace."""

    count: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 1
    """How many instances are wanted."""
    networks: Networks = "none"
    """host: the node's own network; none: only loopback, shared by the group's tasks."""
    ports: dict[Name, Port] = Field(default_factory=dict)
    """Name -> the number that the group listens on; auto: a free one of the node, told in $MOOR_PORT_<name>."""
    constraints: Constraints = ()
    """All must hold, in addition to the job's."""
    affinity: Affinities = ()
    """In addition to the job's."""
    spread: Spreads = ()
    """Levels (node, rack, zone, region) or attributes, the first counting most."""
    distinct_hosts: bool = False
    """No two instances on one node."""
    strategy: Literal["best_fit", "spread", "least_fragmentation"] = "best_fit"
    """Fill nodes up, spread over them, or keep the free rest of nodes in proportion."""
    update: Update | None = None
    """In place of the job's."""
    restart: Restart = Restart()
    reschedule: Reschedule = Reschedule()
    disconnect: Disconnect = Disconnect()
    shutdown_delay: Duration = 0
    """Wait between taking an instance out of the names and stopping it."""
    tasks: Annotated[dict[Name, Task], Field(min_length=1, max_length=MAX_TASKS)]
    """Name -> what runs; all tasks of a group start together."""

    @model_validator(mode="after")
    def _meaningful(self, info: ValidationInfo) -> Any:
        if not is_stored(info):
            found = [*_port_problems(self), *_health_problems(self), *_sysctl_problems(self)]
            if found:
                raise problems(found)
        return self


def _port_problems(group: Group) -> list[Problem]:
    found = []
    owners: dict[int, str] = {}
    for name, number in group.ports.items():
        if number == AUTO:
            if group.networks != "host":
                found.append(Problem(("ports", name), "auto needs networks: host", "give a number, or networks: host"))
        elif number in owners:
            found.append(Problem(("ports", name), f"{number} is the number of port {owners[number]} already"))
        owners.setdefault(number, name)
    return found


def _health_problems(group: Group) -> list[Problem]:
    found = []
    for name, task in group.tasks.items():
        port = task.health.port if task.health else None
        if task.health and port is not None and port not in group.ports:
            at = ("tasks", name, "health", "http" if task.health.http else "tcp", "port")
            known = f"its ports are {', '.join(group.ports)}" if group.ports else "it has none"
            found.append(Problem(at, f"the group has no port {port}: {known}", did_you_mean(port, group.ports)))
    return found


def _sysctl_problems(group: Group) -> list[Problem]:
    """The engine refuses to change the node's own network settings for a container."""
    if group.networks != "host":
        return []
    return [
        Problem(("tasks", name, "container", "sysctls", sysctl), "net.* cannot be set with networks: host")
        for name, task in group.tasks.items()
        for sysctl in task.container.sysctls
        if sysctl.startswith("net.")
    ]
