"""The Docker engine of a host.

`OwnEngine` is Debian's dockerd in the host's network namespace, with folders and a cgroup of its own. `UsersEngine` is
the one that already runs on this machine: it is used, not replaced, and only gets a runtime entry in its daemon.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from agent.drivers.docker_engine import Engine as Facade
from agent.drivers.oci.install import merge, register, unregister, write_wrapper
from tests.lab.dockerapi import EngineRefused, call, filters
from tests.lab.processes import ProcessGroup, alive, kill, run, wait_for


class Engine:
    """What both have in common: a socket that answers."""

    socket: Path

    def configure(self, wrapper: Path, links: Path) -> None:
        raise NotImplementedError

    def start(self) -> int:
        """Have it run and answer. Returns its process id."""
        raise NotImplementedError

    def pid(self) -> int:
        raise NotImplementedError

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        raise NotImplementedError

    def answers(self) -> bool:
        try:
            return bool(call(self.socket, "GET", "/_ping", timeout_s=5))
        except (OSError, EngineRefused):
            return False

    def containers(self) -> list[dict[str, Any]]:
        """All of them, running or not, as the engine lists them."""
        listed: list[dict[str, Any]] = call(self.socket, "GET", "/containers/json?all=1", timeout_s=30)
        return listed

    def pid_of(self, container: str) -> int:
        return int(call(self.socket, "GET", f"/containers/{container}/json")["State"]["Pid"])

    def kill_container(self, container: str) -> None:
        call(self.socket, "POST", f"/containers/{container}/kill")

    def remove_containers(self, label: str) -> None:
        """Those with this label, running or not."""
        for container in call(self.socket, "GET", f"/containers/json?all=1&{filters(label=[label])}"):
            with contextlib.suppress(EngineRefused):
                call(self.socket, "DELETE", f"/containers/{container['Id']}?force=1&v=1")


class OwnEngine(Engine):
    """dockerd of one host. `run_dir` is short-lived and holds sockets, `data_dir` survives a reboot of the host."""

    def __init__(
        self,
        processes: ProcessGroup,
        *,
        host: str,
        run_dir: Path,
        data_dir: Path,
        namespace: str | None,
        cgroup: str,
    ) -> None:
        self._host = host
        self._processes = processes
        self._run_dir = run_dir
        self._data_dir = data_dir
        self._namespace = namespace
        self._cgroup = cgroup
        self.socket = run_dir / "docker.sock"
        self.pid_file = run_dir / "docker.pid"

    def configure(self, wrapper: Path, links: Path) -> None:
        write_wrapper(wrapper, links)
        settings = merge({"live-restore": True}, wrapper)
        self._write(settings)

    def _write(self, settings: dict[str, Any]) -> None:
        self._run_dir.mkdir(parents=True, exist_ok=True)
        (self._run_dir / "daemon.json").write_text(json.dumps(settings))

    def configure_plain(self) -> None:
        """As a package leaves it: neither our runtime nor live-restore."""
        self._write({})

    def command(self) -> list[str]:
        enter = ["nsenter", f"--net=/run/netns/{self._namespace}"] if self._namespace else []
        return [
            *enter, "dockerd",
            "--config-file", str(self._run_dir / "daemon.json"),
            "--data-root", str(self._data_dir / "docker"),
            "--exec-root", str(self._run_dir / "docker"),
            "--pidfile", str(self.pid_file),
            "-H", f"unix://{self.socket}",
            "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
            "--userland-proxy=false", f"--cgroup-parent={self._cgroup}", "--storage-driver=overlay2",
        ]  # fmt: skip

    def start(self) -> int:
        """Start and wait until it answers; one that runs already is kept. Returns its process id."""
        if self.running():
            return self.pid()
        self._wait_for_containerd_to_go()
        for _ in range(3):
            self.pid_file.unlink(missing_ok=True)
            pid = self._processes.spawn(self.command(), host=self._host, log=self._run_dir / "dockerd.log")
            with contextlib.suppress(TimeoutError):
                wait_for(lambda pid=pid: self.answers() or not alive(pid), 30, "dockerd to answer")
            if self.answers():
                return pid
        tail = "\n".join((self._run_dir / "dockerd.log").read_text(errors="replace").splitlines()[-5:])
        raise RuntimeError(f"dockerd did not start; its last lines:\n{tail}")

    def running(self) -> bool:
        return self.pid_file.exists() and alive(self.pid()) and self.answers()

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd; with live-restore its containers go on."""
        if self.pid_file.exists() and alive(pid := self.pid()):
            kill(pid, number, wait_s=30)
        self._wait_for_containerd_to_go()

    def _wait_for_containerd_to_go(self) -> None:
        """A dockerd that is started while the old containerd ends fails with 'timeout waiting for containerd'."""
        path = self._run_dir / "docker" / "containerd" / "containerd.pid"
        if not path.exists():
            return
        with contextlib.suppress(ValueError, FileNotFoundError):
            pid = int(path.read_text())
            until = time.monotonic() + 10
            while alive(pid) and _is(pid, "containerd"):
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)


def _is(pid: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    return False


def remove_shims(run_dir: Path) -> None:
    """The sockets of killed shims. containerd keeps all of them in one folder of the machine, and writes down which
    one belongs to which container."""
    for address in run_dir.glob("**/io.containerd.runtime.v2.task/*/*/address"):
        path = Path(address.read_text().strip().removeprefix("unix://"))
        if path.is_socket():
            path.unlink()


def unmount_below(folder: Path) -> None:
    """Everything mounted at or under a folder, deepest first."""
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in sorted((t for t in targets if t == str(folder) or t.startswith(f"{folder}/")), reverse=True):
        run("umount", "-l", target, check=False)


class UsersEngine(Engine):
    """The machine's own Docker."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._facade = Facade(str(socket))

    def configure(self, wrapper: Path, links: Path) -> None:
        register(self._facade, self.pid(), wrapper, links)

    def take_back(self, wrapper: Path) -> None:
        """Our entry in its daemon.json, and our containers."""
        if self.answers():
            self.remove_containers("moorage.cluster")
        unregister(self._facade, self.pid(), wrapper)

    def pid(self) -> int:
        return int(Path("/var/run/docker.pid").read_text())

    def start(self) -> int:
        if not self.answers():
            raise RuntimeError(f"Docker at {self.socket} does not answer")
        return self.pid()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """It is the user's: it goes on."""
