"""The parent cgroup of each allocation: how it is named, where it is found, what it uses, and its end.

All tasks of an allocation are children of one cgroup, which therefore accounts for the whole. Its name depends on the
engine's cgroup driver: a plain path under cgroupfs, a slice under systemd (which refuses plain paths, as cgroupfs does
slices). Where it lies depends on the kernel's layout as well: one tree (v2), or one per controller (v1). Reading the
files costs microseconds; the engine's own statistics cost it a second of watching for each answer.

Under cgroupfs the engine leaves a parent behind when the last child is gone, so we remove it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPFS = "cgroupfs"
SYSTEMD = "systemd"
_UNLIMITED_V1 = 1 << 62  # v1 writes a huge number where v2 writes "max"


def parent(alloc: str, driver: str, root: str = "/moorage") -> str:
    """The parent of an allocation's containers, as the engine wants to be told it. `root` is "/name"."""
    if driver == SYSTEMD:
        return f"{_slice_name(root)}-{alloc}.slice"
    return f"/{root.strip('/')}/{alloc}"


def directory(parent: str) -> str:
    """Where that parent lies below the mount of a controller: "a-b.slice" is nested in "a.slice"."""
    if not parent.endswith(".slice"):
        return parent.strip("/")
    parts = parent.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: n + 1]) + ".slice" for n in range(len(parts)))


def container_directory(parent: str, engine_id: str) -> str:
    """Where the cgroup of one container lies."""
    leaf = f"docker-{engine_id}.scope" if parent.endswith(".slice") else engine_id
    return f"{directory(parent)}/{leaf}"


def root_directory(driver: str, root: str = "/moorage") -> str:
    """What all parents under `root` have in common."""
    return f"{_slice_name(root)}.slice" if driver == SYSTEMD else root.strip("/")


def _slice_name(root: str) -> str:
    """In a slice's name a dash means nesting, so the root itself may not have one."""
    return root.strip("/").replace("-", "_").replace("/", "-")


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    cpu_usage_us: int = 0
    memory_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What the kernel enforces. None: no limit."""

    cpu_millis: int | None
    memory_bytes: int | None
    pids: int | None
    cpu_weight: int  # v1: shares; v2: weight


class Cgroups:
    """Reads (and tidies) the cgroup files of this machine, in whichever layout it has."""

    def __init__(self, mount: Path = Path("/sys/fs/cgroup")) -> None:
        self._mount = mount
        self.version = 2 if (mount / "cgroup.controllers").exists() else 1
        self._cpuacct = self._controller("cpuacct") if self.version == 1 else mount
        self._cpu = self._controller("cpu") if self.version == 1 else mount

    def usage(self, directory: str) -> CgroupUsage:
        """Zeros where the cgroup is not there (any more)."""
        return self._usage_v2(directory) if self.version == 2 else self._usage_v1(directory)

    def limits(self, directory: str) -> CgroupLimits:
        """FileNotFoundError where the cgroup is not there."""
        return self._limits_v2(directory) if self.version == 2 else self._limits_v1(directory)

    def swap_accounting(self) -> bool:
        """Whether a memory limit also holds swap back."""
        if self.version == 2:
            return any((path / "memory.swap.max").exists() for path in self._mount.iterdir() if path.is_dir())
        return (self._mount / "memory" / "memory.memsw.limit_in_bytes").exists()

    def remove(self, parent: str) -> bool:
        """Take an empty parent away; False where something still lives in it. One that is gone is no error."""
        relative = directory(parent)
        if parent.endswith(".slice"):
            if self.populated(relative):
                return False  # systemd would end what lives in it
            if self._stop_slice(parent):
                return True
        removed = [
            _remove_directory(tree / relative) for tree in self._trees()
        ]  # in every tree, whatever the others say
        return all(removed)

    def populated(self, directory: str) -> bool:
        """Whether a process lives in it, or in a cgroup below it."""
        return any(_read(procs).strip() for tree in self._trees() for procs in (tree / directory).rglob("cgroup.procs"))

    def names(self, root_directory: str) -> list[str]:
        """The parents that exist below a root."""
        found = {entry.name for tree in self._trees() for entry in _subdirectories(tree / root_directory)}
        return sorted(found)

    def _stop_slice(self, parent: str) -> bool:
        """systemd owns its slices; where it does not run, they are plain directories."""
        if not Path("/run/systemd/system").is_dir():
            return False
        return subprocess.run(["systemctl", "stop", parent], check=False, capture_output=True).returncode == 0

    def _trees(self) -> Iterator[Path]:
        if self.version == 2:
            yield self._mount
            return
        yield from (path for path in self._mount.iterdir() if path.is_dir() and not path.is_symlink())

    def _controller(self, name: str) -> Path:
        """On v1 some machines mount cpu and cpuacct together."""
        for candidate in (name, "cpu,cpuacct", "cpuacct,cpu"):
            if (self._mount / candidate).is_dir():
                return self._mount / candidate
        return self._mount / name

    def _usage_v1(self, directory: str) -> CgroupUsage:
        memory = self._mount / "memory" / directory
        used = read_number(memory / "memory.usage_in_bytes") or 0
        inactive = read_fields(memory / "memory.stat").get("total_inactive_file", 0)
        return CgroupUsage(
            cpu_usage_us=(read_number(self._cpuacct / directory / "cpuacct.usage") or 0) // 1000,
            memory_bytes=max(0, used - inactive),
            pids=read_number(self._mount / "pids" / directory / "pids.current") or 0,
        )

    def _usage_v2(self, directory: str) -> CgroupUsage:
        path = self._mount / directory
        used = read_number(path / "memory.current") or 0
        inactive = read_fields(path / "memory.stat").get("inactive_file", 0)
        return CgroupUsage(
            cpu_usage_us=read_fields(path / "cpu.stat").get("usage_usec", 0),
            memory_bytes=max(0, used - inactive),
            pids=read_number(path / "pids.current") or 0,
        )

    def _limits_v1(self, directory: str) -> CgroupLimits:
        cpu = self._cpu / directory
        quota = int((cpu / "cpu.cfs_quota_us").read_text())
        memory = int((self._mount / "memory" / directory / "memory.limit_in_bytes").read_text())
        return CgroupLimits(
            cpu_millis=None if quota < 0 else quota * 1000 // int((cpu / "cpu.cfs_period_us").read_text()),
            memory_bytes=None if memory >= _UNLIMITED_V1 else memory,
            pids=read_number(self._mount / "pids" / directory / "pids.max"),
            cpu_weight=int((cpu / "cpu.shares").read_text()),
        )

    def _limits_v2(self, directory: str) -> CgroupLimits:
        path = self._mount / directory
        quota, period = (path / "cpu.max").read_text().split()
        return CgroupLimits(
            cpu_millis=None if quota == "max" else int(quota) * 1000 // int(period),
            memory_bytes=read_number(path / "memory.max"),
            pids=read_number(path / "pids.max"),
            cpu_weight=int((path / "cpu.weight").read_text()),
        )


def read_number(path: Path) -> int | None:
    """None for "max" and for a file that is not there (a cgroup may go while it is read)."""
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_fields(path: Path) -> dict[str, int]:
    """A file of "name number" lines; empty where it is not there."""
    lines = (line.split() for line in _read(path).splitlines())
    return {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _subdirectories(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []


def _remove_directory(path: Path) -> bool:
    """With the empty cgroups in it; False where one is not empty."""
    for child in _subdirectories(path):
        _remove_directory(child)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
