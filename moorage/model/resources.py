"""What a task reserves on its node (requests), and what its cgroup lets it use (limits)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_validator

from moorage.model.base import Base, Problem, is_stored, problems
from moorage.model.fields import Bytes, Cpu, Memory
from moorage.model.quantities import format_bytes, format_cpu


def _same_as(field: str) -> Any:
    """The default of a limit is its request."""
    return Field(default_factory=lambda data: data[field])


class Resources(Base):
    """What is reserved for a task, and what it may use at most."""

    cpu: Cpu = 100
    """Reserved cores: 250m or 1.5."""
    cpu_limit: Cpu = _same_as("cpu")
    """Cores that the cgroup allows; by default as many as reserved."""
    memory: Memory = 128 << 20
    """Reserved memory."""
    memory_limit: Memory = _same_as("memory")
    """Memory that the cgroup allows, by default as much as reserved; whoever exceeds it is killed."""
    disk: Bytes = 0
    """Reserved for the writable layer and logs."""
    pids: Annotated[int, Field(ge=1, le=4_194_304)] = 512
    """Processes and threads at most."""

    @model_validator(mode="after")
    def _limits_cover_requests(self, info: ValidationInfo) -> Any:
        if is_stored(info):
            return self
        pairs = (
            ("cpu", self.cpu, self.cpu_limit, format_cpu),
            ("memory", self.memory, self.memory_limit, format_bytes),
        )
        found = [
            Problem((f"{name}_limit",), f"{show(limit)} is less than {name}, which is {show(request)}")
            for name, request, limit, show in pairs
            if limit < request
        ]
        if found:
            raise problems(found)
        return self
