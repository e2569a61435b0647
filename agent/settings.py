"""What an agent is told at its start: flags, and MOOR_* variables where a flag is not given."""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from moorage.kit import logging as logs

Driver = Literal["docker", "fake"]

_CGROUP = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9_.-]*)+")


@dataclass(frozen=True, slots=True)
class Settings:
    controllers: list[str]
    token: str
    data_dir: Path
    run_dir: Path
    node_name: str
    address: str = ""  # where the node's own ports are reached; "": the source address towards the controller
    docker_socket: str = "/var/run/docker.sock"
    cgroup_root: str = "/moorage"
    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    log_format: logs.Format = "auto"
    log_level: str = "info"
    metrics: tuple[str, int] | None = None
    driver: Driver = "docker"
    starts_in_flight: int = 4
    reconnect_cap_s: float = 2.0
    fake_state: Path | None = None
    fake_start_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.controllers:
            raise ValueError("no controller to connect to: give --controllers HOST:PORT or set MOOR_CONTROLLERS")
        for address in self.controllers:
            _host_port("--controllers", address)
        if not self.node_name:
            raise ValueError("a node needs a name: give --node-name")
        if not _CGROUP.fullmatch(self.cgroup_root):
            raise ValueError(f"--cgroup-root is a path like /moorage, not {self.cgroup_root!r}")
        for flag, number, least in self._numbers():
            if not number >= least:
                raise ValueError(f"{flag} must be at least {least:g}, not {number:g}")

    def _numbers(self) -> list[tuple[str, float, float]]:
        return [
            ("--cpu-millis", self.cpu_millis, 0),
            ("--memory-bytes", self.memory_bytes, 0),
            ("--disk-bytes", self.disk_bytes, 0),
            ("--starts-in-flight", self.starts_in_flight, 1),
            ("--reconnect-cap", self.reconnect_cap_s, 0.1),
            ("--fake-start", self.fake_start_s, 0),
        ]


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Raises ValueError with a sentence for the user. A flag that does not exist ends the process, as usual."""
    parser = _parser(os.environ if environment is None else environment)
    given = parser.parse_args(arguments)
    _check_choices(parser, given)
    return Settings(
        controllers=[address.strip() for address in given.controllers.split(",") if address.strip()],
        token=_token(given.token, given.token_file),
        data_dir=given.data_dir,
        run_dir=given.run_dir,
        node_name=given.node_name,
        address=given.address,
        docker_socket=given.docker_socket,
        cgroup_root=given.cgroup_root,
        cpu_millis=given.cpu_millis,
        memory_bytes=given.memory_bytes,
        disk_bytes=given.disk_bytes,
        labels=_labels(given.labels),
        log_format=cast("logs.Format", given.log_format),
        log_level=given.log_level,
        metrics=_host_port("--metrics", given.metrics) if given.metrics else None,
        driver=cast("Driver", given.driver),
        starts_in_flight=given.starts_in_flight,
        reconnect_cap_s=given.reconnect_cap,
        fake_state=Path(given.fake_state) if given.fake_state else None,
        fake_start_s=given.fake_start,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moor agent", description="The daemon of a host: runs what it is assigned.")

    def add(flag: str, default: str, help: str, **more: object) -> None:
        variable = "MOOR_" + flag.removeprefix("--").replace("-", "_").upper()
        parser.add_argument(flag, default=environment.get(variable, default), help=f"{help} [{variable}]", **more)  # type: ignore[arg-type]

    add("--controllers", "", "HOST:PORT of the controllers, comma-separated")
    add("--token", "", "the agent's token")
    add("--token-file", "", "a file that holds it")
    add("--data-dir", "/var/lib/moorage/agent", "journal and node id", type=Path)
    add("--run-dir", "/run/moorage/agent", "namespaces; must not survive a reboot", type=Path)
    add("--node-name", socket.gethostname(), "what people call this node")
    add("--address", "", "where this node's own ports are reached")
    add("--docker-socket", "/var/run/docker.sock", "of the container engine")
    add("--cgroup-root", "/moorage", "the cgroup above all allocations of this node")
    add("--cpu-millis", "0", "capacity to offer; 0: what the machine has", type=int)
    add("--memory-bytes", "0", "capacity to offer; 0: what the machine has", type=int)
    add("--disk-bytes", "0", "capacity to offer; 0: what the machine has", type=int)
    add("--labels", "", "key=value,… of this node")
    add("--log-format", "auto", "auto, json or text", choices=("auto", "json", "text"))
    add("--log-level", "info", "from which level on", choices=sorted(logs.LEVELS))
    add("--metrics", "", "HOST:PORT for Prometheus; none: not served")
    add("--driver", "docker", "docker, or fake for benchmarks", choices=("docker", "fake"))
    add("--starts-in-flight", "4", "how many starts an engine is given at once", type=int)
    add("--reconnect-cap", "2", "the longest pause between two tries to connect, in seconds", type=float)
    add("--fake-state", "", "where the fake engine keeps what runs, so that it outlives the agent")
    add("--fake-start", "0", "how long a start takes on the fake engine, in seconds", type=float)
    return parser


def _check_choices(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """argparse looks at what is on the command line alone, not at what a variable says."""
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if action.choices and value not in action.choices:
            raise ValueError(f"{action.option_strings[0]} is one of {', '.join(action.choices)}, not {value!r}")


def _token(token: str, file: str) -> str:
    """The file wins: MOOR_TOKEN is also what a person who uses the command has set, and that is no agent's token."""
    if file:
        try:
            token = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the token file cannot be read: {error}") from error
    if not token:
        where = f"{file} is empty" if file else "give --token-file FILE"
        raise ValueError(f"no token, and without one no controller lets an agent in: {where}")
    return token


def _labels(text: str) -> dict[str, str]:
    pairs = [pair.split("=", 1) for pair in text.split(",") if pair]
    for pair in pairs:
        if len(pair) != 2 or not pair[0]:
            raise ValueError(f"labels are key=value, not {'='.join(pair)!r}")
    return {key.strip(): value.strip() for key, value in pairs}


def _host_port(flag: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{flag} is HOST:PORT, not {text!r}")
    return host or "127.0.0.1", int(port)
