"""What keeps a controller from starting is one sentence, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.kit.datadir import locked
from tests.contract.etcds import EtcdProcess, free_port
from tests.integration.agent_world import ROOT

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    made = EtcdProcess("etcd34", tmp_path_factory.mktemp("etcd"))
    made.start()
    yield made
    made.kill()


def refusal(folder: Path, *flags: str, **environment: str) -> str:
    """The last line that it says; it must have ended by itself, in vain."""
    command = [sys.executable, "-m", "controller.main", "--data-dir", str(folder / "data"), *flags]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def free() -> str:
    return f"127.0.0.1:{free_port()}"


def test_an_address_that_is_taken(tmp_path: Path, etcd: EtcdProcess) -> None:
    taken = etcd.endpoint.removeprefix("http://")
    said = refusal(tmp_path, "--etcd", taken, "--api", taken, "--agents", free())
    assert said == f"moor controller: cannot serve the API at {taken}: Address already in use"
    said = refusal(tmp_path, "--etcd", taken, "--api", free(), "--agents", taken)
    assert said.startswith(f"moor controller: cannot listen for agents at {taken}")


def test_an_etcd_that_is_not_installed(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--api", free(), "--agents", free(), PATH=str(tmp_path))
    assert "apt-get install etcd-server" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--api", "7070"), "--api wants HOST:PORT"),
        (("--etcd-quota", "2 GB"), "--etcd-quota: "),
    ],
)
def test_flags_that_mean_nothing(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    assert words in refusal(tmp_path, *flags)


def test_a_data_directory_that_another_one_holds(tmp_path: Path, etcd: EtcdProcess) -> None:
    with locked(tmp_path / "data", "controller"):
        flags = ("--etcd", etcd.endpoint, "--api", free(), "--agents", free())
        assert "another controller runs with the data directory" in refusal(tmp_path, *flags)
