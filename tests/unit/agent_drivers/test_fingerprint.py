"""What a node tells of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cgroup import Cgroups
from agent.drivers.docker_facts import facts
from agent.drivers.protocol import DriverFacts
from agent.fingerprint import Capacity, Host, fingerprint, os_release

INFO = {
    "ServerVersion": "20.10.24",
    "Driver": "overlay2",
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "DockerRootDir": "/var/lib/docker",
    "LiveRestoreEnabled": True,
    "SwapLimit": True,
    "Runtimes": {"runc": {}, "moorage": {}},
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    proc, etc = tmp_path / "proc", tmp_path / "etc"
    (proc / "sys/kernel/random").mkdir(parents=True)
    etc.mkdir()
    (proc / "meminfo").write_text("MemTotal:       2048 kB\nMemAvailable: 1024 kB\n")
    (proc / "sys/kernel/pid_max").write_text("4194304\n")
    (proc / "sys/kernel/random/boot_id").write_text("b007\n")
    (etc / "os-release").write_text('ID=debian\nVERSION_ID="12"\n# a comment = no\nNAME="Debian GNU/Linux"\n')
    return Host(proc, etc, tmp_path, "x86_64", "6.1.0")


def test_a_node_tells_what_it_is_and_has(host: Host, tmp_path: Path) -> None:
    found = fingerprint("h1", "0.1.0", {"docker": facts(INFO, "moorage")}, Cgroups(tmp_path), host=host)
    assert (found.name, found.boot_id, found.pids, found.agent_version) == ("h1", "b007", 4194304, "0.1.0")
    assert found.memory_bytes == 2048 * 1024
    assert found.cpu_millis >= 1000
    assert found.disk_bytes > 0
    assert list(found.drivers) == ["docker"]
    expected = {
        "node.name": "h1",
        "os.arch": "amd64",
        "os.kernel": "6.1.0",
        "os.name": "debian",
        "os.version": "12",
        "cgroup.version": "1",
        "docker.version": "20.10.24",
        "docker.cgroup_driver": "systemd",
        "docker.netns_runtime": "true",
    }
    assert {key: found.attributes[key] for key in expected} == expected
    assert not found.missing


def test_capacity_and_labels_that_are_given_count(host: Host, tmp_path: Path) -> None:
    found = fingerprint(
        "h1",
        "0.1.0",
        {},
        Cgroups(tmp_path),
        capacity=Capacity(cpu_millis=750, memory_bytes=5, disk_bytes=6),
        labels={"rack": "r1"},
        host=host,
    )
    assert (found.cpu_millis, found.memory_bytes, found.disk_bytes) == (750, 5, 6)
    assert found.attributes["label.rack"] == "r1"


def test_a_driver_that_is_not_healthy_is_left_out_and_says_why(host: Host, tmp_path: Path) -> None:
    away = DriverFacts(healthy=False, missing={"docker": "the container engine does not answer"})
    found = fingerprint("h1", "0.1.0", {"docker": away}, Cgroups(tmp_path), host=host)
    assert list(found.drivers) == []
    assert found.missing["docker"] == "the container engine does not answer"


def test_what_an_engine_lacks_is_said_with_its_consequence() -> None:
    found = facts({**INFO, "Runtimes": {}, "LiveRestoreEnabled": False, "SwapLimit": False}, "moorage")
    assert found.healthy
    assert found.attributes["docker.netns_runtime"] == "false"
    assert "pause container" in found.missing["docker.netns_runtime"]
    assert "all containers end when the engine restarts" in found.missing["docker.live_restore"]
    assert "swap" in found.missing["docker.swap_accounting"]


def test_a_system_without_os_release_is_no_error(tmp_path: Path) -> None:
    assert os_release(tmp_path / "missing") == {}
