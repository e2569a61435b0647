"""What a node is and has, as its agent tells the controller.

Attributes are strings under dotted names (os.arch, cgroup.version, docker.version …) on which constraints may be
written. `missing` says what the host lacks and why that matters: the product uses what it finds. Where several nodes
share one machine, their capacity is given instead of measured.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.cgroup import Cgroups
from agent.drivers.protocol import DriverFacts
from agent.usage import memory_fields
from moorage.wire.store_pb2 import NodeFacts

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the node offers; 0: what the machine has."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """Where facts are read from; tests put files elsewhere."""

    proc: Path = Path("/proc")
    etc: Path = Path("/etc")
    disk: Path = Path("/")
    machine: str = platform.machine()
    kernel: str = platform.release()


def fingerprint(
    name: str,
    agent_version: str,
    drivers: Mapping[str, DriverFacts],
    cgroups: Cgroups,
    *,
    capacity: Capacity = Capacity(),
    labels: Mapping[str, str] | None = None,
    host: Host = Host(),
) -> NodeFacts:
    """Blocks for some small files. Drivers that are not healthy are left out, and `missing` says why."""
    facts = NodeFacts(
        name=name,
        cpu_millis=capacity.cpu_millis or 1000 * len(os.sched_getaffinity(0)),
        memory_bytes=capacity.memory_bytes or memory_fields(_lines(host.proc / "meminfo"))["MemTotal"],
        disk_bytes=capacity.disk_bytes or _disk_size(host.disk),
        drivers=sorted(driver for driver, its in drivers.items() if its.healthy),
        agent_version=agent_version,
        pids=int((host.proc / "sys/kernel/pid_max").read_text()),
        boot_id=(host.proc / "sys/kernel/random/boot_id").read_text().strip(),
    )
    facts.attributes.update(_attributes(name, host, cgroups))
    facts.attributes.update({f"label.{key}": value for key, value in (labels or {}).items()})
    for its in drivers.values():
        facts.attributes.update(its.attributes)
        facts.missing.update(its.missing)
    return facts


def _attributes(name: str, host: Host, cgroups: Cgroups) -> dict[str, str]:
    release = os_release(host.etc / "os-release")
    return {
        "node.name": name,
        "os.arch": _ARCHITECTURES.get(host.machine, host.machine),
        "os.kernel": host.kernel,
        "os.name": release.get("ID", "linux"),
        "os.version": release.get("VERSION_ID", ""),
        "cpu.cores": str(len(os.sched_getaffinity(0))),
        "cgroup.version": str(cgroups.version),
        "cgroup.swap_accounting": "true" if cgroups.swap_accounting() else "false",
    }


def os_release(path: Path) -> dict[str, str]:
    """Shell-like assignments; empty where the file is not there."""
    pairs = (line.split("=", 1) for line in _lines(path) if "=" in line and not line.startswith("#"))
    return {key: " ".join(shlex.split(value)) for key, value in pairs}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _disk_size(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize
