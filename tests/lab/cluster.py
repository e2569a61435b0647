"""A whole cluster on one machine: an underlay, hosts, and one controller with its embedded etcd.

Everything is found again from its folders (`/run/moorage-lab/<lab>`, `/var/lib/moorage-lab/<lab>`), so that any
process may look at, hurt, or end a lab that another one made, also after an interrupted start.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab import image
from tests.lab.controller import Controller
from tests.lab.engine import UsersEngine, remove_shims, unmount_below
from tests.lab.host import DATA, RUN, Capacity, Host
from tests.lab.processes import ProcessGroup
from tests.lab.underlay import Underlay

QUICK = {
    "MOOR_HEARTBEAT": "0.5",
    "MOOR_LOST_AFTER": "3",
    "MOOR_LEASE": "4",
    "MOOR_RENEW": "1",
    "MOOR_ORPHAN_GRACE": "20",
}
"""Timings of a lab for tests; `./dev up` keeps the defaults."""

ENGINES_MAKE = [
    Path(path)
    for path in (
        "/etc/docker/key.json",
        "/etc/docker",
        "/run/docker/plugins",
        "/run/docker",
        "/run/containerd/s",
        "/run/containerd",
    )
]
"""What engines make outside of the folders that they are given."""


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
        self.controller = self._controller("controller", api_port)
        self.hosts = [self._host(f"h{number}", capacity) for number in range(1, hosts + 1)]

    def _host(self, name: str, capacity: Capacity | None) -> Host:
        if self.on_this_machine:
            return Host(self.lab, socket.gethostname(), processes=self.processes, capacity=None, namespace=None)
        namespace = self.underlay.host_namespace(name)
        return Host(self.lab, name, processes=self.processes, capacity=capacity or Capacity(), namespace=namespace)

    def second_controller(self) -> Controller:
        """Another one on the first one's etcd; agents do not know it until they are sent there."""
        return self._controller("second", self.api_port + 10, etcd=self.controller.etcd_endpoint)

    def _controller(self, name: str, api_port: int, etcd: str = "") -> Controller:
        return Controller(
            self.processes,
            name=name,
            run_dir=self.run_dir,
            data_dir=self.data_dir,
            api_port=api_port,
            agents_host="127.0.0.1" if self.on_this_machine else self.underlay.gateway,
            env=self.env,
            etcd=etcd,
        )

    # -- hosts ---------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def start_agent(self, host: Host, *, also: Controller | None = None) -> int:
        """`also`: a further controller that it is told of."""
        addresses = [each.agents_address for each in (self.controller, also) if each]
        return host.start_agent(
            controllers=",".join(addresses),
            token_file=self.controller.token_file("agent"),
            env=self.env,
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

    def logs(self) -> list[Path]:
        """Of the controller and the agents."""
        return [self.controller.log, *(host.agent_log for host in self.hosts)]

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """Running ones of ours on each host, asked from the engines."""
        return {host.name: host.containers() for host in self.hosts}

    # -- all -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Everything, quietly; what runs already is kept."""
        self.make_network()
        self.start_engines()
        self.controller.start()
        self.controller.wait_ready()
        for host in self.hosts:
            self.start_agent(host)

    def down(self) -> None:
        """End it and remove every trace: processes, namespaces, links, mounts, cgroups, files."""
        failures = [failure for host in self.hosts if (failure := _take_back(host))]
        self.processes.end()
        self.underlay.down()
        remove_shims(self.run_dir)
        made = self._made()
        for folder in (self.run_dir, self.data_dir):
            unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
            for parent in (folder.parent,):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()

        for path in made:
            _remove_if_empty(path)
        if failures:
            raise RuntimeError(f"everything else is removed, but: {'; '.join(failures)}")

    def remember(self) -> None:
        """What a later `./dev` needs to know to find this lab again, and what was not there before it."""
        made = [str(path) for path in (self._made() if remembered(self.lab) else _absent())]
        self.data_dir.mkdir(parents=True, exist_ok=True)
        known = {"hosts": len(self.hosts), "on_this_machine": self.on_this_machine, "made": made}
        (self.data_dir / "lab.json").write_text(json.dumps(known))

    def _made(self) -> list[Path]:
        return [Path(path) for path in (remembered(self.lab) or {}).get("made", ())]


def _take_back(host: Host) -> str:
    """What is ours in an engine that is not; returns what went wrong, as that must not keep the rest here."""
    if isinstance(host.engine, UsersEngine):
        try:
            host.engine.take_back(host.wrapper)
        except Exception as error:
            return str(error)
    return ""


def _absent() -> list[Path]:
    return [path for path in ENGINES_MAKE if not path.exists()]


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def remembered(lab: str) -> dict[str, Any] | None:
    path = DATA / lab / "lab.json"
    return json.loads(path.read_text()) if path.exists() else None
