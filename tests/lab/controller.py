"""One controller process of a lab, with the etcd that it brings or one that it is told of."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.lab.processes import ProcessGroup, alive, kill, process_state, run, wait_for


class Controller:
    """`etcd` names the endpoint of another controller's etcd; without it this one brings its own."""

    def __init__(
        self,
        processes: ProcessGroup,
        *,
        name: str,
        run_dir: Path,
        data_dir: Path,
        api_port: int,
        agents_host: str,
        env: Mapping[str, str],
        etcd: str = "",
    ) -> None:
        self._processes = processes
        self._name = name
        self._pid_file = run_dir / f"{name}.pid"
        self.data = data_dir / name
        self.log = data_dir / f"{name}.log"
        self._api_port = api_port
        self._agents_host = agents_host
        self._env = dict(env)
        self._etcd = etcd
        self.etcd_endpoint = etcd or f"127.0.0.1:{api_port + 2}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._api_port}"

    @property
    def agents_address(self) -> str:
        return f"{self._agents_host}:{self._api_port + 1}"

    def start(self, env: Mapping[str, str] | None = None) -> int:
        """Start it; one that runs already is kept. Returns its process id."""
        if self.running():
            return self.pid()
        self._refuse_taken_ports()
        brings = ["--etcd", self._etcd] if self._etcd else ["--etcd-port", str(self._api_port + 2)]
        command = [
            sys.executable, "-m", "controller.main",
            "--data-dir", str(self.data),
            "--api", f"127.0.0.1:{self._api_port}",
            "--agents", self.agents_address,
            "--log-format", "json",
            *brings,
        ]  # fmt: skip
        pid = self._processes.spawn(command, host=self._name, log=self.log, env={**self._env, **(env or {})})
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.write_text(str(pid))
        return pid

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Until the API says so. Raises RuntimeError with the controller's last lines if it ended instead."""

        def ready() -> bool:
            if not self.running():
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
                raise RuntimeError(f"the controller ended; its last lines ({self.log}):\n{tail}")
            return self.answers("/readyz") and self.token_file("agent").exists()

        wait_for(ready, timeout_s, f"the API at {self.api_url}")

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.api_url + path, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def pid(self) -> int:
        return int(self._pid_file.read_text())

    def running(self) -> bool:
        return self._pid_file.exists() and alive(self.pid())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Returns the process id that is gone. Its etcd goes on."""
        pid = self.pid()
        kill(pid, number)
        return pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid(), number)

    def state(self) -> str:
        return process_state(self.pid())

    def token(self, role: str = "admin") -> str:
        return self.token_file(role).read_text().strip()

    def token_file(self, role: str) -> Path:
        return self.data / f"{role}.token"

    # -- its etcd ------------------------------------------------------------------------------------------------

    def etcd_pid(self) -> int:
        """Of the embedded etcd, wherever it hangs after its controller's death."""
        for pid in self._processes.pids(f"sys-{self._name}"):
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if Path(arguments[0]).name == "etcd":
                return pid
        raise LookupError("no etcd runs")

    def etcd_runs(self) -> bool:
        try:
            return bool(self.etcd_pid())
        except LookupError:
            return False

    def kill_etcd(self) -> None:
        kill(self.etcd_pid())

    def backup_etcd(self) -> Path:
        """A snapshot of the store as it is now."""
        path = self.data.with_suffix(".backup")
        path.unlink(missing_ok=True)
        run("etcdctl", "--endpoints", self.etcd_endpoint, "snapshot", "save", str(path))
        return path

    def restore_etcd(self, backup: Path) -> None:
        """Put an old snapshot in the place of the embedded etcd's data; the controller must be down."""
        if self.etcd_runs():
            self.kill_etcd()
        data = self.data / "etcd"
        shutil.rmtree(data)
        peer = f"http://127.0.0.1:{self._api_port + 3}"
        run(
            "etcdctl", "snapshot", "restore", str(backup), "--data-dir", str(data), "--name", "moorage",
            "--initial-cluster", f"moorage={peer}", "--initial-advertise-peer-urls", peer,
        )  # fmt: skip

    def _refuse_taken_ports(self) -> None:
        for port in (self._api_port, self._api_port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise RuntimeError(f"port {port} is taken by another program ({error.strerror})") from error
