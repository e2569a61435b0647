"""Names of parent cgroups under both drivers, and their files in both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cgroup import CgroupLimits, Cgroups, CgroupUsage, container_directory, directory, parent, root_directory
from agent.usage import UsageReader, busy_us, memory_used

ALLOC = "00ff00ff00ff00ff"


def test_under_cgroupfs_a_parent_is_a_plain_path_below_a_root_that_can_be_set() -> None:
    assert parent(ALLOC, "cgroupfs") == f"/moorage/{ALLOC}"
    assert parent(ALLOC, "cgroupfs", "/moor-h1") == f"/moor-h1/{ALLOC}"
    assert directory(f"/moor-h1/{ALLOC}") == f"moor-h1/{ALLOC}"
    assert container_directory(f"/moor-h1/{ALLOC}", "c0") == f"moor-h1/{ALLOC}/c0"
    assert root_directory("cgroupfs", "/moor-h1") == "moor-h1"


def test_under_systemd_a_parent_is_a_slice_nested_by_its_name() -> None:
    assert parent(ALLOC, "systemd") == f"moorage-{ALLOC}.slice"
    assert directory(f"moorage-{ALLOC}.slice") == f"moorage.slice/moorage-{ALLOC}.slice"
    assert container_directory(f"moorage-{ALLOC}.slice", "c0") == f"moorage.slice/moorage-{ALLOC}.slice/docker-c0.scope"
    assert root_directory("systemd") == "moorage.slice"


def test_a_dash_in_the_root_does_not_nest_slices() -> None:
    assert parent(ALLOC, "systemd", "/moor-h1") == f"moor_h1-{ALLOC}.slice"
    assert directory(f"moor_h1-{ALLOC}.slice") == f"moor_h1.slice/moor_h1-{ALLOC}.slice"


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_a_parent_lies_directly_below_its_root(driver: str) -> None:
    below = directory(parent(ALLOC, driver, "/moor-h1")).removeprefix(root_directory(driver, "/moor-h1") + "/")
    assert ALLOC in below
    assert "/" not in below


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def version1(tmp_path_factory: pytest.TempPathFactory) -> Cgroups:
    files = {
        "cpu,cpuacct/m/a/cpuacct.usage": "5000000\n",
        "cpu,cpuacct/m/a/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/m/a/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/m/a/cpu.shares": "256\n",
        "memory/m/a/memory.usage_in_bytes": "10000\n",
        "memory/m/a/memory.stat": "cache 1\ntotal_inactive_file 4000\n",
        "memory/m/a/memory.limit_in_bytes": "33554432\n",
        "memory/memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "pids/m/a/pids.current": "3\n",
        "pids/m/a/pids.max": "max\n",
    }
    return Cgroups(put(tmp_path_factory.mktemp("v1"), files))


@pytest.fixture
def version2(tmp_path: Path) -> Cgroups:
    files = {
        "cgroup.controllers": "cpu memory pids\n",
        "m/a/cpu.stat": "usage_usec 5000\nuser_usec 1\n",
        "m/a/cpu.max": "max 100000\n",
        "m/a/cpu.weight": "10\n",
        "m/a/memory.current": "10000\n",
        "m/a/memory.stat": "anon 1\ninactive_file 4000\n",
        "m/a/memory.max": "33554432\n",
        "m/a/pids.current": "3\n",
        "m/a/pids.max": "512\n",
    }
    return Cgroups(put(tmp_path, files))


def test_version_1_is_read(version1: Cgroups) -> None:
    assert version1.version == 1
    assert version1.usage("m/a") == CgroupUsage(cpu_usage_us=5000, memory_bytes=6000, pids=3)
    assert version1.limits("m/a") == CgroupLimits(cpu_millis=500, memory_bytes=33554432, pids=None, cpu_weight=256)
    assert version1.swap_accounting()


def test_version_2_is_read(version2: Cgroups) -> None:
    assert version2.version == 2
    assert version2.usage("m/a") == CgroupUsage(cpu_usage_us=5000, memory_bytes=6000, pids=3)
    assert version2.limits("m/a") == CgroupLimits(cpu_millis=None, memory_bytes=33554432, pids=512, cpu_weight=10)
    assert not version2.swap_accounting()


def test_a_cgroup_that_has_gone_uses_nothing(version1: Cgroups, version2: Cgroups) -> None:
    assert version1.usage("m/gone") == version2.usage("m/gone") == CgroupUsage()


def test_heartbeats_tell_the_usage_of_each_allocation(version2: Cgroups, tmp_path: Path) -> None:
    [used] = UsageReader(version2, tmp_path).allocs({"a": "/m/a"})
    assert (used.alloc, used.cpu_usage_us, used.memory_bytes, used.pids) == ("a", 5000, 6000, 3)


def test_a_node_that_shares_a_machine_counts_its_own_share_alone(version2: Cgroups, tmp_path: Path) -> None:
    used = UsageReader(version2, tmp_path, share=lambda: "m/a").node()
    assert (used.cpu_usage_us, used.memory_bytes) == (5000, 6000)
    assert used.disk_bytes > 0


def test_a_node_of_its_own_counts_the_whole_machine(version2: Cgroups, tmp_path: Path) -> None:
    whole = UsageReader(version2, tmp_path).node()
    assert whole.cpu_usage_us > 0
    assert whole.memory_bytes > 1 << 20


def test_idle_time_is_not_usage() -> None:
    assert busy_us("cpu  100 0 50 9999 9999 5 5 0 0 0\ncpu0 1 1 1 1 1 1 1 1\n") == 160 * 10_000


def test_memory_that_can_be_had_is_not_used() -> None:
    assert memory_used("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n") == 400 * 1024


def test_empty_parents_are_removed_with_what_is_empty_in_them(version2: Cgroups, tmp_path: Path) -> None:
    (tmp_path / "root/b/c").mkdir(parents=True)
    assert version2.names("root") == ["b"]
    assert version2.remove("/root/b")
    assert version2.remove("/root/b")
    assert version2.names("root") == []


def test_a_parent_in_which_something_lives_stays(version2: Cgroups) -> None:
    assert not version2.remove("/m/a")
    assert version2.names("m") == ["a"]


def test_a_slice_in_which_something_lives_is_not_given_to_systemd_which_would_end_it(
    version2: Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []

    def stop(parent: str) -> bool:
        stopped.append(parent)
        return True

    monkeypatch.setattr(version2, "_stop_slice", stop)
    procs = "m.slice/m-a.slice/docker-c0.scope/cgroup.procs"
    put(tmp_path, {procs: "4711\n"})
    assert not version2.remove("m-a.slice") and stopped == []
    put(tmp_path, {procs: ""})
    assert version2.remove("m-a.slice") and stopped == ["m-a.slice"]
