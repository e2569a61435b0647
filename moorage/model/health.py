"""How a task shows that it is well: one probe, repeated; run inside the group's namespaces."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_validator

from moorage.model.base import Base, Listed, Problem, check, is_stored, problems, refusal
from moorage.model.fields import Duration, Name, PositiveDuration, Text

PROBES = ("http", "tcp", "exec")


def _check_path(value: str) -> None:
    if not value.startswith("/") or any(c.isspace() or not c.isprintable() for c in value):
        raise refusal("must be a path that begins with / and holds no spaces", "like /health")


class HttpProbe(Base):
    """A GET request; a status from 200 to 399 is well, unless `status` says which are."""

    port: Name
    """Name of a port of the group."""
    path: Annotated[str, check(_check_path)] = "/"
    """What is asked for."""
    status: Listed[Annotated[int, Field(ge=100, le=599)]] = ()
    """The answers that count as well."""


class TcpProbe(Base):
    """A connection that is accepted is well."""

    port: Name
    """Name of a port of the group."""


class ExecProbe(Base):
    """A command inside the container; exit code 0 is well."""

    command: Annotated[Listed[Text], Field(min_length=1)]
    """What is run, without a shell unless it names one."""


class Health(Base):
    """Exactly one of http, tcp and exec. Without any, a task is healthy once it runs."""

    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    exec: ExecProbe | None = None
    interval: PositiveDuration = 2_000
    """From one probe to the next."""
    timeout: PositiveDuration = 1_000
    """A probe without an answer for so long has failed."""
    start: Duration = 10_000
    """Grace after the start, before failures count."""
    failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """So many in a row, and the task is unhealthy and is restarted."""

    @property
    def port(self) -> str | None:
        """Name of the port that is probed."""
        probe = self.http or self.tcp
        return probe.port if probe else None

    @model_validator(mode="after")
    def _one_probe(self, info: ValidationInfo) -> Any:
        given = [name for name in PROBES if getattr(self, name) is not None]
        if len(given) == 1 or is_stored(info):
            return self
        found = " and ".join(given) if given else "none of them"
        raise problems([Problem((), f"must have exactly one of http, tcp and exec, has {found}")])
