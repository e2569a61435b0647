"""A whole cluster on one machine: an underlay, hosts, and one controller with its embedded etcd.

Everything is found again from its folders (`/run/moorage-lab/<lab>`, `/var/lib/moorage-lab/<lab>`), so that any
process may look at, hurt, or end a lab that another one made, also after an interrupted start.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab import image
from tests.lab.engine import UsersEngine, unmount_below
from tests.lab.host import DATA, RUN, Capacity, Host
from tests.lab.processes import ProcessGroup, alive, kill, process_state, run, wait_for
from tests.lab.underlay import Underlay

QUICK = {
    "MOOR_HEARTBEAT": "0.5",
    "MOOR_LOST_AFTER": "3",
    "MOOR_LEASE": "4",
    "MOOR_RENEW": "1",
    "MOOR_ORPHAN_GRACE": "30",
}
"""Timings of a lab for tests; `./dev up` keeps the defaults."""


class Cluster:
    def __init__(
        self,
        lab: str,
        hosts: int,
        *,
        api_port: int,
        env: Mapping[str, str] | None = None,
        capacity: Capacity | None = None,
        on_this_machine: bool = False,
    ) -> None:
        """`on_this_machine`: its one host is the machine itself, without a namespace of its own."""
        self.lab = lab
        self.on_this_machine = on_this_machine
        self.env = dict(env or {})
        self.processes = ProcessGroup(lab)
        self.underlay = Underlay(lab)
        self.run_dir = RUN / lab
        self.data_dir = DATA / lab
        self.api_port = api_port
        self.agents_port = api_port + 1
        self.etcd_port = api_port + 2
        self.hosts = [self._host(f"h{number}", capacity) for number in range(1, hosts + 1)]

    def _host(self, name: str, capacity: Capacity | None) -> Host:
        if self.on_this_machine:
            return Host(self.lab, socket.gethostname(), processes=self.processes, capacity=None, namespace=None)
        namespace = self.underlay.host_namespace(name)
        return Host(self.lab, name, processes=self.processes, capacity=capacity or Capacity(), namespace=namespace)

    # -- controller ----------------------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def controller_data(self) -> Path:
        return self.data_dir / "controller"

    @property
    def controller_log(self) -> Path:
        return self.data_dir / "controller.log"

    @property
    def _controller_pid_file(self) -> Path:
        return self.run_dir / "controller.pid"

    @property
    def agents_address(self) -> str:
        host = "127.0.0.1" if self.on_this_machine else self.underlay.gateway
        return f"{host}:{self.agents_port}"

    def start_controller(self, env: Mapping[str, str] | None = None) -> int:
        if self.controller_running():
            return self.controller_pid()
        self._refuse_taken_ports()
        command = [
            sys.executable, "-m", "controller.main",
            "--data-dir", str(self.controller_data),
            "--api", f"127.0.0.1:{self.api_port}",
            "--agents", self.agents_address,
            "--etcd-port", str(self.etcd_port),
            "--log-format", "json",
        ]  # fmt: skip
        pid = self.processes.spawn(command, host="controller", log=self.controller_log, env={**self.env, **(env or {})})
        self._controller_pid_file.parent.mkdir(parents=True, exist_ok=True)
        self._controller_pid_file.write_text(str(pid))
        return pid

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Until the API says so. Raises RuntimeError with the controller's last lines if it ended instead."""

        def ready() -> bool:
            if not self.controller_running():
                tail = "\n".join(self.controller_log.read_text(errors="replace").splitlines()[-8:])
                raise RuntimeError(f"the controller ended; its last lines ({self.controller_log}):\n{tail}")
            return self._answers("/readyz")

        wait_for(ready, timeout_s, f"the API at {self.api_url}")

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.api_url + path, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def controller_pid(self) -> int:
        return int(self._controller_pid_file.read_text())

    def controller_running(self) -> bool:
        return self._controller_pid_file.exists() and alive(self.controller_pid())

    def kill_controller(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Returns the process id that is gone. Its etcd goes on."""
        pid = self.controller_pid()
        kill(pid, number)
        return pid

    def signal_controller(self, number: signal.Signals) -> None:
        os.kill(self.controller_pid(), number)

    def controller_state(self) -> str:
        return process_state(self.controller_pid())

    def kill_etcd(self) -> None:
        kill(self.etcd_pid())

    def etcd_runs(self) -> bool:
        try:
            return bool(self.etcd_pid())
        except LookupError:
            return False

    def backup_etcd(self) -> Path:
        """A snapshot of the store as it is now."""
        path = self.data_dir / "backup.db"
        run("etcdctl", "--endpoints", f"127.0.0.1:{self.etcd_port}", "snapshot", "save", str(path))
        return path

    def restore_etcd(self, backup: Path) -> None:
        """Put an old snapshot in the place of the embedded etcd's data; the controller must be down."""
        self.kill_etcd()
        data = self.controller_data / "etcd"
        shutil.rmtree(data)
        run(
            "etcdctl", "snapshot", "restore", str(backup), "--data-dir", str(data),
            "--name", "moorage", "--initial-cluster", f"moorage=http://127.0.0.1:{self.etcd_port + 1}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.etcd_port + 1}",
        )  # fmt: skip

    def etcd_pid(self) -> int:
        """Of the embedded etcd, wherever it hangs after its controller's death."""
        wanted = str(self.controller_data)
        for pid in self.processes.pids("sys-controller"):
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if Path(arguments[0]).name == "etcd" and any(wanted in argument for argument in arguments):
                return pid
        raise LookupError("no etcd runs")

    def token(self, role: str = "admin") -> str:
        return (self.controller_data / f"{role}.token").read_text().strip()

    def _refuse_taken_ports(self) -> None:
        for port in (self.api_port, self.agents_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise RuntimeError(f"port {port} is taken by another program ({error.strerror})") from error

    # -- hosts ---------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def start_agent(self, host: Host, env: Mapping[str, str] | None = None) -> int:
        return host.start_agent(
            controllers=self.agents_address,
            token_file=self.controller_data / "agent.token",
            env={**self.env, **(env or {})},
        )

    def make_network(self) -> None:
        if not self.on_this_machine:
            self.underlay.up()
            for number, host in enumerate(self.hosts, start=1):
                self.underlay.add_host(host.name, number)

    def start_engines(self) -> None:
        for host in self.hosts:
            host.install()
            host.engine.start()
            image.load(host.engine.socket)

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """Running ones of ours on each host, asked from the engines."""
        return {host.name: host.containers() for host in self.hosts}

    # -- all -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Everything, quietly; what runs already is kept."""
        self.make_network()
        self.start_engines()
        self.start_controller()
        self.wait_ready()
        for host in self.hosts:
            self.start_agent(host)

    def down(self) -> None:
        """End it and remove every trace: processes, namespaces, links, mounts, cgroups, files."""
        for host in self.hosts:
            if isinstance(host.engine, UsersEngine):
                host.engine.take_back(host.wrapper)
        self.processes.end()
        self.underlay.down()
        for folder in (self.run_dir, self.data_dir):
            unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
            for parent in (folder.parent,):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()

    def remember(self) -> None:
        """What a later `./dev` needs to know to find this lab again."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "lab.json").write_text(
            json.dumps({"hosts": len(self.hosts), "on_this_machine": self.on_this_machine})
        )


def remembered(lab: str) -> dict[str, Any] | None:
    path = DATA / lab / "lab.json"
    return json.loads(path.read_text()) if path.exists() else None
