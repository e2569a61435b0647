"""What the engine says of itself, as attributes of the node and as what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.drivers.docker_engine import Engine, Refused
from agent.drivers.protocol import DriverFacts, EngineAway

RUNTIME_ATTRIBUTE = "docker.netns_runtime"


def read(engine: Engine, runtime: str) -> DriverFacts:
    """Blocks for one call. An engine that is away makes an unhealthy driver, not an error."""
    try:
        info = engine.json("GET", "/info", "info")
    except (EngineAway, Refused) as error:
        return DriverFacts(healthy=False, missing={"docker": f"{error} at {engine.socket_path}"})
    return facts(info, runtime)


def facts(info: Mapping[str, Any], runtime: str) -> DriverFacts:
    registered = runtime in (info.get("Runtimes") or {})
    return DriverFacts(
        healthy=True,
        attributes={
            "docker.version": str(info.get("ServerVersion", "")),
            "docker.storage_driver": str(info.get("Driver", "")),
            "docker.cgroup_driver": str(info.get("CgroupDriver", "")),
            "docker.cgroup_version": str(info.get("CgroupVersion", "")),
            "docker.root": str(info.get("DockerRootDir", "")),
            "docker.live_restore": _word(info.get("LiveRestoreEnabled")),
            "docker.swap_accounting": _word(info.get("SwapLimit")),
            RUNTIME_ATTRIBUTE: _word(registered),
        },
        missing=dict(_missing(info, runtime, registered)),
    )


def _missing(info: Mapping[str, Any], runtime: str, registered: bool) -> Iterator[tuple[str, str]]:
    if not registered:
        why = f"the engine does not know runtime {runtime}: a pause container holds each namespace, starts take longer"
        yield RUNTIME_ATTRIBUTE, why
    if not info.get("LiveRestoreEnabled"):
        yield "docker.live_restore", "live-restore is off: all containers end when the engine restarts"
    if not info.get("SwapLimit"):
        yield "docker.swap_accounting", "the kernel does not count swap: memory limits do not hold swap back"


def _word(value: object) -> str:
    return "true" if value else "false"
