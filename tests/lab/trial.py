"""The cluster that `./dev up` gives to somebody who tries Moorage, and how it goes away again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from moorage.cli import contexts
from tests.lab import image
from tests.lab.cluster import Cluster, remembered
from tests.lab.engine import UsersEngine
from tests.lab.host import Host
from tests.lab.processes import wait_for
from tests.lab.steps import Steps

LAB = "dev"
API_PORT = 7070
EXAMPLE = "hello"


def up(hosts: int | None, here: Path, steps: Steps) -> int:
    cluster = _cluster(hosts)
    cluster.remember()
    if not cluster.on_this_machine:
        with steps.step(f"{len(cluster.hosts)} hosts as network namespaces"):
            cluster.make_network()
    cluster.controller.start()  # it comes up while the engines do
    for host in cluster.hosts:
        with steps.step(f"Docker engine of {host.name}, with image {image.NAME}"):
            host.install()
            host.engine.start()
            if image.load(host.engine.socket):
                _image_mark(cluster).touch()
    with steps.step("etcd and controller"):
        cluster.controller.wait_ready()
    contexts.write(LAB, url=cluster.controller.api_url, token=cluster.controller.token(), make_current=True)
    for host in cluster.hosts:
        cluster.start_agent(host)
    for host in cluster.hosts:
        with steps.step(f"agent of {host.name}"):
            wait_for(lambda host=host: _joined(cluster, host), 60, f"{host.name} to join; see {host.agent_log}")
    print()
    code = subprocess.call([str(_moor()), "apply", "-f", str(here / "examples" / f"{EXAMPLE}.yaml")])
    if code == 0:
        _show(cluster, steps)
    return code


def _moor() -> Path:
    return Path(sys.executable).parent / "moor"


def _cluster(hosts: int | None) -> Cluster:
    known = remembered(LAB)
    if known and hosts is not None and hosts != known["hosts"]:
        plural = "s" if known["hosts"] != 1 else ""
        raise RuntimeError(
            f"a cluster of {known['hosts']} host{plural} is here already: "
            f"`./dev up` goes on with it, `./dev down` removes it"
        )
    hosts = known["hosts"] if known else hosts or 1
    return Cluster(LAB, hosts, api_port=API_PORT, on_this_machine=hosts == 1)


def _image_mark(cluster: Cluster) -> Path:
    """There where the example's image is in the engine because of us."""
    return cluster.data_dir / "image-loaded"


def _joined(cluster: Cluster, host: Host) -> bool:
    if not host.agent_running():
        tail = "\n".join(host.agent_log.read_text(errors="replace").splitlines()[-8:])
        raise RuntimeError(f"the agent of {host.name} ended; its last lines ({host.agent_log}):\n{tail}")
    with contextlib.suppress(OSError, ValueError):
        return bool(_get(cluster, f"/v1/nodes/{host.name}")["phase"] == "ready")
    return False


def _get(cluster: Cluster, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {cluster.controller.token()}"}
    request = urllib.request.Request(cluster.controller.api_url + path, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _show(cluster: Cluster, steps: Steps) -> None:
    print(flush=True)
    subprocess.call([str(_moor()), "get", "allocations", "--job", EXAMPLE])
    print(f"\nReady after {steps.total():.0f} s.\n")
    if url := _example_url(cluster):
        print(f"  curl {url:<31} {_answer(url)}")
    print(f"""\
  ./dev moor get nodes                 the hosts
  ./dev moor describe job {EXAMPLE}        the job, and why it is as it is
  ./dev moor logs {EXAMPLE} -f             what it prints
  ./dev moor scale {EXAMPLE} 5             more of it
  ./dev moor explain {EXAMPLE}             why each one is where it is
  ./dev down                           ends it, without a trace

API: {cluster.controller.api_url} (context '{LAB}' has the token); logs: {cluster.data_dir}/""")


def _example_url(cluster: Cluster) -> str:
    """Where one instance of the example can be reached from this machine."""
    addresses = {host.name: cluster.underlay.address(number) for number, host in enumerate(cluster.hosts, start=1)}
    with contextlib.suppress(OSError, ValueError):
        for alloc in _get(cluster, f"/v1/projects/default/allocations?job={EXAMPLE}")["items"]:
            if alloc["phase"] == "running" and alloc["ports"]:
                address = "127.0.0.1" if cluster.on_this_machine else addresses[alloc["node_name"]]
                return f"http://{address}:{next(iter(alloc['ports'].values()))}"
    return ""


def _answer(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(url, timeout=2) as answer:
        return f'says "{answer.read(200).decode(errors="replace").strip()}"'
    return "the example"


def down(steps: Steps) -> int:
    known = remembered(LAB)
    cluster = _cluster(None)
    with steps.step("ending the cluster and removing its traces"):
        loaded = _image_mark(cluster).exists()
        contexts.remove(LAB)
        cluster.down()
        for host in cluster.hosts:
            if loaded and isinstance(host.engine, UsersEngine) and host.engine.answers():
                image.unload(host.engine.socket)
    if known is None:
        print("  (there was none)")
    return 0


def status() -> int:
    """1 where not all of it runs."""
    if remembered(LAB) is None:
        print("no cluster; `./dev up` makes one")
        return 1
    cluster = _cluster(None)
    answers = cluster.controller.answers("/readyz")
    state = "ready" if answers else "runs, but is not ready" if cluster.controller.running() else "is down"
    print(f"controller   {state}   {cluster.controller.api_url}")
    well = [answers, *(_tell(host) for host in cluster.hosts)]
    if not all(well):
        print("`./dev up` starts what is down")
    return 0 if all(well) else 1


def _tell(host: Host) -> bool:
    agent, engine = host.agent_running(), host.engine.answers()
    count = len(host.containers()) if engine else 0
    containers = f"{count} container{'' if count == 1 else 's'}" if engine else "containers not known"
    words = f"agent {'runs' if agent else 'is down'}, engine {'answers' if engine else 'is down'}, {containers}"
    print(f"{host.name:<12} {words}")
    return agent and engine
