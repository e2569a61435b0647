"""From `apply` until 60 containers run on three hosts, beside what the engines can do by themselves.

In one run, in turns, on engines of the same binary: Moorage (each container in a namespace of its own); the Docker SDK
straight, 8 at a time, with `network_mode: none` and with `host` (the least that an engine can do); Docker Swarm with
`--network host` on engines of its own (Swarm and live-restore exclude each other). The order turns with every round,
and the median of the rounds counts.
"""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker

from benchmarks.measure import cpu_s, rss_mib
from benchmarks.proxy import SocketProxy
from benchmarks.table import Figure, parser, report
from tests.e2e.user import User
from tests.lab import image
from tests.lab.cluster import Cluster
from tests.lab.dockerapi import API
from tests.lab.engine import Engine, OwnEngine
from tests.lab.processes import run, wait_for

COMMAND = ["sleep", "3600"]
COUNT = 60


def main(arguments: list[str]) -> int:
    options = parser("deploy", __doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--count", type=int, default=COUNT)
    given = options.parse_args(arguments)
    ours = Cluster("bench", 3, api_port=7270)
    swarm = Cluster("swarm", 3, api_port=7370)
    ours.down()
    swarm.down()
    try:
        figures, notes = _measure(ours, swarm, given.rounds, given.count)
    finally:
        ours.down()
        swarm.down()
    report(f"deploy: {given.count} containers on 3 hosts", figures, notes, given.json)
    return 0


def _measure(ours: Cluster, swarm: Cluster, rounds: int, count: int) -> tuple[list[Figure], dict[str, str]]:
    ours.up()
    user = User(ours)
    user.wait_for_nodes(3)
    _form_swarm(swarm)
    moorage = Moorage(ours, user, count)
    ways: dict[str, Callable[[], float]] = {
        "moorage": moorage.round,
        "sdk_none": lambda: sdk(ours, count, "none"),
        "sdk_host": lambda: sdk(ours, count, "host"),
        "swarm": lambda: swarm_service(swarm, count),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        for name in names[number % 4 :] + names[: number % 4]:
            taken = ways[name]()
            print(f"  round {number}{' (warm-up)' if number == 0 else ''}: {name:<10} {taken:6.2f} s", flush=True)
            if number:
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    latency = _first_call_ms(ours, user)
    agents = [host.agent_pid() for host in ours.hosts]
    figures = [
        Figure("ratio_to_sdk_none", medians["moorage"] / medians["sdk_none"], "<= 0.65"),
        Figure("ratio_to_sdk_host", medians["moorage"] / medians["sdk_host"], "<= 1.15"),
        Figure("ratio_to_swarm", medians["moorage"] / medians["swarm"], "<= 1.0"),
        Figure("apply_to_engine_p50_ms", latency, "<= 50"),
        Figure("controller_rss_mib", rss_mib(ours.controller.pid()), "<= 130"),
        Figure("agent_rss_mib", max(rss_mib(pid) for pid in agents), "<= 90"),
        Figure("cpu_seconds_per_allocation", statistics.median(moorage.cpu_s) / count),
    ]
    return figures, {name: f"{value:.2f} s (median of {rounds})" for name, value in medians.items()}


class Starts:
    """Counts `start` events of several engines, without asking them again and again."""

    def __init__(self, engines: Iterable[Engine]) -> None:
        self._clients = [docker.APIClient(f"unix://{engine.socket}", version=API, timeout=600) for engine in engines]
        self._seen = 0
        self._changed = threading.Condition()
        self._streams = [client.events(decode=True, filters={"event": "start"}) for client in self._clients]
        for stream in self._streams:
            threading.Thread(target=self._follow, args=(stream,), daemon=True).start()

    def _follow(self, stream: Any) -> None:
        with suppress(Exception):  # the stream is closed under us at the end
            for _ in stream:
                with self._changed:
                    self._seen += 1
                    self._changed.notify_all()

    def wait(self, count: int, timeout_s: float = 120) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen >= count, timeout_s):
                raise TimeoutError(f"{self._seen} of {count} containers started")

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        for client in self._clients:
            client.close()


class Moorage:
    def __init__(self, cluster: Cluster, user: User, count: int) -> None:
        self._cluster = cluster
        self._user = user
        self._count = count
        self.cpu_s: list[float] = []

    def round(self) -> float:
        pids = [self._cluster.controller.pid(), *(host.agent_pid() for host in self._cluster.hosts)]
        starts = Starts(host.engine for host in self._cluster.hosts)
        before = cpu_s(pids)
        started = time.monotonic()
        self._user.apply(_job("bench", self._count))
        starts.wait(self._count)
        taken = time.monotonic() - started
        wait_for(lambda: self._user.job("bench")["status"]["phase"] == "running", 30, "the job to be called running")
        self.cpu_s.append(cpu_s(pids) - before)
        starts.close()
        running = sum(len(host.containers()) for host in self._cluster.hosts)
        assert running == self._count, f"{running} containers run"
        self._user.delete_all_jobs()
        wait_for(lambda: not any(h.engine.containers() for h in self._cluster.hosts), 60, "the containers to be gone")
        return taken


def _job(name: str, count: int) -> dict[str, Any]:
    task = {
        "container": {"image": image.NAME, "command": COMMAND},
        "resources": {"cpu": "10m", "cpu_limit": 1, "memory": "16Mi"},
        "stop": {"timeout": "100ms"},
    }
    return {
        "kind": "Job",
        "name": name,
        "groups": {"web": {"count": count, "networks": "none", "tasks": {"main": task}}},
    }


def sdk(cluster: Cluster, count: int, network: str) -> float:
    """Create and start through the SDK's low-level client, 8 at a time, hosts in turn."""
    clients = [docker.APIClient(f"unix://{host.engine.socket}", version=API, timeout=120) for host in cluster.hosts]

    def one(number: int) -> None:
        client = clients[number % len(clients)]
        limits = client.create_host_config(
            network_mode=network, mem_limit=16 << 20, memswap_limit=16 << 20, cpu_period=100_000, cpu_quota=100_000
        )
        made = client.create_container(image.NAME, COMMAND, host_config=limits, labels={"floor": "1"})
        client.start(made["Id"])

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))
    taken = time.monotonic() - started
    for client in clients:
        client.close()
    for host in cluster.hosts:
        host.engine.remove_containers("floor")
    return taken


def _form_swarm(swarm: Cluster) -> None:
    swarm.make_network()
    for number, host in enumerate(swarm.hosts, start=1):
        assert isinstance(host.engine, OwnEngine)
        host.engine.configure_plain()
        host.engine.start()
        image.load(host.engine.socket)
        with docker.APIClient(f"unix://{host.engine.socket}", version=API) as client:
            address = swarm.underlay.address(number)
            if number == 1:
                client.init_swarm(advertise_addr=address, listen_addr=f"{address}:2377")
                token = client.inspect_swarm()["JoinTokens"]["Worker"]
                manager = f"{address}:2377"
            else:
                client.join_swarm([manager], token, advertise_addr=address, listen_addr=f"{address}:2377")


def swarm_service(swarm: Cluster, count: int) -> float:
    """`docker service create --detach --network host`, until the engines have started them all."""
    socket = swarm.hosts[0].engine.socket
    starts = Starts(host.engine for host in swarm.hosts)
    command = [
        "/usr/bin/docker", "-H", f"unix://{socket}", "service", "create", "--detach", "--quiet", "--name", "bench",
        "--network", "host", "--replicas", str(count), "--limit-memory", "16M", "--limit-cpu", "1",
        "--no-resolve-image", image.NAME, *COMMAND,
    ]  # fmt: skip
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    starts.wait(count)
    taken = time.monotonic() - started
    starts.close()
    run("/usr/bin/docker", "-H", f"unix://{socket}", "service", "rm", "bench")
    wait_for(lambda: not any(h.engine.containers() for h in swarm.hosts), 120, "the service to be gone")
    return taken


def _first_call_ms(cluster: Cluster, user: User, tries: int = 20) -> float:
    """From sending the PUT until the agent's first request reaches the engine's socket, at the median."""
    host = cluster.hosts[0]
    for other in cluster.hosts[1:]:
        user.patch_node(other.name, cordoned=True)
    host.kill_agent()
    real = host.engine.socket
    with SocketProxy(real, Path(f"{real}.proxy")) as proxy:
        host.engine.socket = proxy.path
        cluster.start_agent(host)
        user.wait_for_nodes(3)
        time.sleep(2)
        found = []
        for number in range(tries):
            proxy.watch_for(b"/containers/create")
            started = time.monotonic()
            user.apply(_job(f"one{number}", 1))
            found.append((proxy.seen_at() - started) * 1000)
            user.delete_all_jobs()
        host.kill_agent()
        host.engine.socket = real
    cluster.start_agent(host)
    for other in cluster.hosts[1:]:
        user.patch_node(other.name, cordoned=False)
    return statistics.median(found)
