"""One host of a lab: its namespace, its engine and its agent, and what can befall them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.engine import Engine, OwnEngine, UsersEngine, remove_shims, unmount_below
from tests.lab.processes import ProcessGroup, alive, kill, process_state, tracking_hierarchy, wait_for

RUN = Path("/run/moorage-lab")
DATA = Path("/var/lib/moorage-lab")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host pretends to have, as several share one machine."""

    cpu_millis: int = 8000
    memory_mib: int = 4096


class Host:
    """With a namespace it is a host of its own; without one it is this machine itself."""

    def __init__(
        self, lab: str, name: str, *, processes: ProcessGroup, capacity: Capacity | None, namespace: str | None
    ) -> None:
        self.name = name
        self.run_dir = RUN / lab / name
        self.data_dir = DATA / lab / name
        self.cgroup = f"/moor-{lab}/{name}"
        self.namespace = namespace
        self._processes = processes
        self._capacity = capacity
        users = UsersEngine(Path("/var/run/docker.sock"))
        self.engine: Engine = (
            users
            if namespace is None and users.answers()
            else OwnEngine(
                processes,
                host=name,
                run_dir=self.run_dir / "engine",
                data_dir=self.data_dir,
                namespace=namespace,
                cgroup=self.cgroup,
            )
        )

    @property
    def wrapper(self) -> Path:
        return self.data_dir / "moorage-runtime"

    def install(self) -> None:
        """What is done once for a host: the runtime wrapper and the engine's settings."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.engine.configure(self.wrapper, self.links_dir)

    @property
    def links_dir(self) -> Path:
        return self.run_dir / "agent" / "links"

    def start_agent(self, *, controllers: str, token_file: Path, env: dict[str, str]) -> int:
        """Start the agent; one that runs already is kept. Returns its process id."""
        if self.agent_running():
            return self.agent_pid()
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        command = [
            *enter,
            sys.executable, "-m", "agent.main",
            "--controllers", controllers,
            "--token-file", str(token_file),
            "--node-name", self.name,
            "--data-dir", str(self.data_dir / "agent"),
            "--run-dir", str(self.run_dir / "agent"),
            "--docker-socket", str(self.engine.socket),
            "--cgroup-root", self.cgroup,
            "--log-format", "json",
        ]  # fmt: skip
        if self._capacity:
            command += ["--cpu-millis", str(self._capacity.cpu_millis)]
            command += ["--memory-bytes", str(self._capacity.memory_mib << 20)]
        pid = self._processes.spawn(command, host=self.name, log=self.agent_log, env=env)
        self._agent_pid_file.parent.mkdir(parents=True, exist_ok=True)
        self._agent_pid_file.write_text(str(pid))
        return pid

    @property
    def agent_log(self) -> Path:
        return self.data_dir / "agent.log"

    @property
    def _agent_pid_file(self) -> Path:
        return self.run_dir / "agent.pid"

    def agent_pid(self) -> int:
        return int(self._agent_pid_file.read_text())

    def agent_running(self) -> bool:
        return self._agent_pid_file.exists() and alive(self.agent_pid())

    def kill_agent(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Returns the process id that is gone."""
        pid = self.agent_pid()
        kill(pid, number)
        return pid

    def signal_agent(self, number: signal.Signals) -> None:
        os.kill(self.agent_pid(), number)

    def agent_state(self) -> str:
        return process_state(self.agent_pid())

    def power_off(self) -> None:
        """Everything of the host ends at once, and what lives in memory (/run) is gone with it."""
        self._processes.cut_power(f"sys-{self.name}")
        self._processes.cut_power(self.name)
        remove_shims(self.run_dir)
        unmount_below(self.run_dir)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.engine.configure(self.wrapper, self.links_dir)

    def power_on(self) -> None:
        self.engine.start()

    def containers(self) -> list[dict[str, Any]]:
        """Running ones of ours, as the engine tells them."""
        return [
            c for c in self.engine.containers() if c["State"] == "running" and "moorage.alloc" in (c["Labels"] or {})
        ]

    def namespace_inode(self, container: str) -> int:
        """Of the network namespace that the container's first process is in."""
        return os.stat(f"/proc/{self.engine.pid_of(container)}/ns/net").st_ino

    def leftovers(self) -> list[str]:
        """Namespaces and cgroups of allocations that are still there."""
        folders = [self.run_dir / "agent" / "netns", tracking_hierarchy() / self.cgroup.lstrip("/")]
        return [str(each) for folder in folders if folder.is_dir() for each in folder.iterdir() if _of_allocation(each)]

    def wait_for_engine(self) -> None:
        wait_for(self.engine.answers, 30, f"the engine of {self.name}")


def _of_allocation(path: Path) -> bool:
    return path.is_mount() or (path.is_dir() and path.parent.name != "agent")
