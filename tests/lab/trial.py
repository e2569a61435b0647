"""The cluster that `./dev up` gives to somebody who tries Moorage, and how it goes away again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from moorage.cli import contexts
from tests.lab import image
from tests.lab.cluster import Cluster, remembered
from tests.lab.processes import wait_for
from tests.lab.steps import Steps

LAB = "dev"
API_PORT = 7070


def up(hosts: int | None, here: Path, steps: Steps) -> int:
    cluster = _cluster(hosts)
    cluster.remember()
    if not cluster.on_this_machine:
        with steps.step(f"{len(cluster.hosts)} hosts as network namespaces"):
            cluster.make_network()
    for host in cluster.hosts:
        with steps.step(f"Docker engine of {host.name}"):
            host.install()
            host.engine.start()
        with steps.step(f"image {image.NAME} on {host.name}, from this machine's busybox"):
            image.load(host.engine.socket)
    with steps.step("etcd and controller"):
        cluster.controller.start()
        cluster.controller.wait_ready()
    contexts.write(LAB, url=cluster.controller.api_url, token=cluster.controller.token(), make_current=True)
    for host in cluster.hosts:
        with steps.step(f"agent of {host.name}"):
            cluster.start_agent(host)
            wait_for(lambda name=host.name: _ready(here, name), 60, f"{host.name} to join; see {host.agent_log}")
    print()
    moor = Path(sys.executable).parent / "moor"
    code = subprocess.call([str(moor), "apply", "-f", str(here / "examples" / "hello.yaml")])
    if code == 0:
        _show(moor, cluster, steps)
    return code


def _cluster(hosts: int | None) -> Cluster:
    known = remembered(LAB)
    if known and hosts is not None and hosts != known["hosts"]:
        raise RuntimeError(f"a cluster of {known['hosts']} runs already; `./dev down` first")
    hosts = known["hosts"] if known else hosts or 1
    return Cluster(LAB, hosts, api_port=API_PORT, on_this_machine=hosts == 1)


def _ready(here: Path, node: str) -> bool:
    moor = Path(sys.executable).parent / "moor"
    result = subprocess.run(
        [str(moor), "wait", f"node/{node}", "--for", "ready", "--timeout", "30s"], capture_output=True
    )
    return result.returncode == 0


def _show(moor: Path, cluster: Cluster, steps: Steps) -> None:
    print()
    subprocess.call([str(moor), "get", "allocations"])
    print(f"""
Ready after {steps.total():.0f} s. Look around:

  ./dev moor get nodes                 the hosts
  ./dev moor describe job hello        the job, and why it is as it is
  ./dev moor logs hello -f             what it prints
  ./dev moor scale hello 5             more of it
  ./dev moor explain hello             why each one is where it is
  ./dev down                           ends it, without a trace

API: {cluster.controller.api_url} (context '{LAB}' has the token); logs: {cluster.data_dir}/""")


def down(steps: Steps) -> int:
    known = remembered(LAB)
    cluster = _cluster(None)
    with steps.step("ending the cluster and removing its traces"):
        cluster.down()
        contexts.remove(LAB)
    if known is None:
        print("  (there was none)")
    return 0


def status() -> int:
    if remembered(LAB) is None:
        print("no cluster; `./dev up` makes one")
        return 1
    cluster = _cluster(None)
    print(f"controller   {'runs' if cluster.controller.running() else 'is down'}   {cluster.controller.api_url}")
    for host in cluster.hosts:
        agent = "runs" if host.agent_running() else "is down"
        engine = "answers" if host.engine.answers() else "is down"
        count = len(host.containers()) if engine == "answers" else "?"
        print(f"{host.name:<12} agent {agent}, engine {engine}, {count} containers")
    return 0
