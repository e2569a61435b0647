"""Real etcds for tests: the machine's own (3.4) and Debian 13's (3.5), processes that may be killed and stopped."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.tools.chroot import debian13_etcd

RELEASES = ("etcd34", "etcd35")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class EtcdProcess:
    """One member on loopback. fsync is off: the tests kill the process, not the machine."""

    def __init__(self, release: str, folder: Path, *flags: str) -> None:
        self._programs = Path("/usr/bin") if release == "etcd34" else debian13_etcd()
        self._release = release
        self._folder = folder
        self._flags = flags
        self._client, self._peer = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._client}"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self._folder, env={})
        deadline = time.monotonic() + 20
        while not self._healthy():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"etcd did not start:\n{(self._folder / 'log').read_text()[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def save(self, backup: Path) -> None:
        backup.unlink(missing_ok=True)
        self._run("/usr/bin/etcdctl", f"--endpoints={self.endpoint}", "snapshot", "save", str(backup))

    def restore(self, backup: Path) -> None:
        """Kill it, put the old backup in place of what it had, start it again."""
        self.kill()
        shutil.rmtree(self._folder / "data")
        tool = "/usr/bin/etcdctl" if self._release == "etcd34" else str(self._programs / "etcdutl")
        where = [f"--name={self._release}", f"--data-dir={self._folder / 'data'}", *self._membership()]
        self._run(tool, "snapshot", "restore", str(backup), *where)
        self.start()

    def _membership(self) -> list[str]:
        peer = f"http://127.0.0.1:{self._peer}"
        return [f"--initial-cluster={self._release}={peer}", f"--initial-advertise-peer-urls={peer}"]

    def _command(self) -> list[str]:
        return [
            str(self._programs / "etcd"),
            f"--name={self._release}",
            f"--data-dir={self._folder / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer}",
            *self._membership(),
            "--heartbeat-interval=10",
            "--election-timeout=100",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-outputs=stderr",
            "--log-level=warn",
            *self._flags,
        ]

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=1) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, env={"ETCDCTL_API": "3"})
