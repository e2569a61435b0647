"""What the node and its allocations use at this moment, for heartbeats; read from /proc and cgroup files.

Cheap enough for every heartbeat: some six small files an allocation, no call to an engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agent.cgroup import Cgroups, directory
from moorage.wire.session_pb2 import AllocUsage, Usage

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class UsageReader:
    """`share` names the cgroup that stands for this node where several nodes share one machine; None is all of it."""

    def __init__(
        self, cgroups: Cgroups, disk: Path, *, proc: Path = Path("/proc"), share: Callable[[], str] | None = None
    ) -> None:
        self._cgroups = cgroups
        self._disk = disk
        self._proc = proc
        self._share = share

    def node(self) -> Usage:
        if self._share is not None:
            used = self._cgroups.usage(self._share())
            return Usage(
                cpu_usage_us=used.cpu_usage_us, memory_bytes=used.memory_bytes, disk_bytes=disk_used(self._disk)
            )
        return Usage(
            cpu_usage_us=busy_us((self._proc / "stat").read_text()),
            memory_bytes=memory_used((self._proc / "meminfo").read_text()),
            disk_bytes=disk_used(self._disk),
        )

    def allocs(self, parents: Mapping[str, str]) -> list[AllocUsage]:
        """By allocation id: its parent cgroup, as `agent.cgroup.parent` names it."""
        return [self._alloc(alloc, parent) for alloc, parent in parents.items()]

    def _alloc(self, alloc: str, parent: str) -> AllocUsage:
        used = self._cgroups.usage(directory(parent))
        return AllocUsage(alloc=alloc, cpu_usage_us=used.cpu_usage_us, memory_bytes=used.memory_bytes, pids=used.pids)


def busy_us(stat: str) -> int:
    """CPU time since boot that was not idle, over all cores, in microseconds (from /proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(n) for n in stat.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000 // _TICKS_PER_S


def memory_used(meminfo: str) -> int:
    """Total less what is available to new work, in bytes (from /proc/meminfo)."""
    fields = memory_fields(meminfo.splitlines())
    return fields["MemTotal"] - fields["MemAvailable"]


def memory_fields(lines: Iterable[str]) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: int(rest.split()[0]) * (1024 if rest.strip().endswith("kB") else 1) for name, rest in pairs}


def disk_used(path: Path) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
