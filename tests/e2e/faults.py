"""What may happen to a lab, each with the proof that it has hit.

A fault is a function of (lab, user, rng) that hurts, proves it, and mends; `disturbed` names the host (if any) whose
agent could not be heard meanwhile, since for that time `disconnect` allows a slot to run twice.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.truth import running
from tests.e2e.user import User, service
from tests.lab.cluster import Cluster
from tests.lab.processes import alive, wait_for

Json = dict[str, Any]


@dataclass
class World:
    """What is wanted at present, and whom to ask and hurt."""

    lab: Cluster
    user: User
    rng: random.Random
    jobs: dict[str, Json] = field(default_factory=dict)
    tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disturbances: int = 0  # hosts that cannot be heard right now

    def wanted(self) -> dict[str, int]:
        return {name: job["groups"]["web"]["count"] for name, job in self.jobs.items()}

    def apply(self, name: str) -> None:
        self.user.apply(self.jobs[name])

    def pause(self, most_s: float) -> None:
        time.sleep(self.rng.uniform(0, most_s))


def populate(world: World) -> None:
    """Three jobs that differ in what faults can do to them."""
    world.jobs = {
        "alone": service("alone", 4),
        "pair": service("pair", 2, tasks=("server", "helper")),
        "checked": service(
            "checked",
            3,
            command="httpd -f -p $MOOR_PORT_http",
            networks="host",
            ports={"http": "auto"},
        ),
    }
    probe = {"http": {"port": "http", "path": "/", "status": [200, 404]}, "interval": "500ms", "timeout": "2s"}
    world.jobs["checked"]["groups"]["web"]["tasks"]["server"]["health"] = probe
    world.tasks = {"pair": ("server", "helper")}
    for name in world.jobs:
        world.apply(name)


def kill_container(world: World) -> str:
    found = running(world.lab)
    if not found:
        return "nothing to kill"
    victim = world.rng.choice(found)
    engine = world.lab.host(victim.host).engine
    pid = engine.pid_of(victim.id)
    engine.kill_container(victim.id)
    wait_for(lambda: not alive(pid), 20, f"process {pid} of the container to end")
    return f"container of {victim.job}/{victim.index} on {victim.host}, pid {pid}"


def kill_agent(world: World) -> str:
    host = world.rng.choice(world.lab.hosts)
    old = host.kill_agent()
    world.pause(5)
    new = world.lab.start_agent(host)
    assert new != old
    return f"agent of {host.name}, pid {old} -> {new}"


def kill_controller(world: World) -> str:
    old = world.lab.controller.kill()
    world.pause(4)
    new = world.lab.controller.start()
    assert new != old
    return f"controller, pid {old} -> {new}"


def kill_etcd(world: World) -> str:
    old = world.lab.controller.etcd_pid()
    world.lab.controller.kill_etcd()
    assert not alive(old)
    wait_for(world.lab.controller.etcd_runs, 30, "etcd to be started again")
    new = world.lab.controller.etcd_pid()
    assert new != old
    return f"etcd, pid {old} -> {new}"


def kill_both(world: World) -> str:
    """Controller and etcd at once."""
    old, old_etcd = world.lab.controller.pid(), world.lab.controller.etcd_pid()
    world.lab.controller.kill()
    world.lab.controller.kill_etcd()
    world.pause(2)
    new = world.lab.controller.start()
    world.lab.controller.wait_ready()
    assert new != old
    assert world.lab.controller.etcd_pid() != old_etcd
    return f"controller and etcd, pids {old}, {old_etcd}"


def restart_dockerd(world: World) -> str:
    host = world.rng.choice(world.lab.hosts)
    number = world.rng.choice([signal.SIGTERM, signal.SIGKILL])
    old = host.engine.pid()
    host.engine.stop(number)
    assert not alive(old)
    world.pause(2)
    host.engine.start()
    new = host.engine.pid()
    assert new != old
    return f"dockerd of {host.name} by {number.name}, pid {old} -> {new}"


def reboot(world: World) -> str:
    host = world.rng.choice(world.lab.hosts)
    old = host.agent_pid()
    pids = {host.engine.pid_of(c["Id"]) for c in host.containers()}
    host.power_off()
    assert not any(alive(pid) for pid in {old, *pids})
    world.pause(5)
    host.power_on()
    world.lab.start_agent(host)
    return f"reboot of {host.name}, {len(pids)} containers gone"


def partition(world: World) -> str:
    host = world.rng.choice(world.lab.hosts)
    world.lab.underlay.cut(host.name)
    before = world.lab.underlay.packets_to(host.name)
    time.sleep(world.rng.uniform(1, 9))
    assert world.lab.underlay.packets_to(host.name) == before, "packets went on"
    world.lab.underlay.heal(host.name)
    wait_for(lambda: world.lab.underlay.packets_to(host.name) > before, 20, "packets to flow again")
    return f"partition of {host.name}, packets stopped at {before}"


def freeze_agent(world: World) -> str:
    """Stopped for longer than the timeout and continued: its news is old when it wakes."""
    host = world.rng.choice(world.lab.hosts)
    pid = host.agent_pid()
    host.signal_agent(signal.SIGSTOP)
    time.sleep(world.rng.uniform(2, 8))
    assert host.agent_state() == "T"
    host.signal_agent(signal.SIGCONT)
    return f"agent of {host.name} frozen, pid {pid}"


def freeze_controller(world: World) -> str:
    """For longer than its lease: what it had in mind must not be written any more."""
    pid = world.lab.controller.pid()
    world.lab.controller.signal(signal.SIGSTOP)
    time.sleep(world.rng.uniform(2, 8))
    assert world.lab.controller.state() == "T"
    world.lab.controller.signal(signal.SIGCONT)
    return f"controller frozen, pid {pid}"


def drain(world: World) -> str:
    host = world.rng.choice(world.lab.hosts)
    world.user.patch_node(host.name, draining=True)
    wait_for(lambda: not host.containers(), 90, f"{host.name} to be empty")
    world.user.patch_node(host.name, draining=False)
    return f"drain of {host.name}"


def scale(world: World) -> str:
    name = world.rng.choice(sorted(world.jobs))
    count = world.rng.randint(1, 6)
    old = world.jobs[name]["groups"]["web"]["count"]
    world.jobs[name]["groups"]["web"]["count"] = count
    world.apply(name)
    return f"scale of {name} {old} -> {count}"


def update(world: World) -> str:
    name = world.rng.choice(sorted(world.jobs))
    stamp = f"{world.rng.randrange(1 << 30):x}"
    for task in world.jobs[name]["groups"]["web"]["tasks"].values():
        task["env"] = {"STAMP": stamp}
    world.apply(name)
    return f"new template of {name} ({stamp})"


FAULTS: list[tuple[Callable[[World], str], int, bool]] = [
    # what, how often in comparison, whether a host may be unheard for long because of it
    (kill_container, 4, False),
    (kill_agent, 4, True),
    (kill_controller, 4, False),
    (kill_etcd, 3, False),
    (kill_both, 1, False),
    (restart_dockerd, 3, False),
    (reboot, 2, True),
    (partition, 4, True),
    (freeze_agent, 2, True),
    (freeze_controller, 2, True),
    (drain, 1, False),
    (scale, 3, False),
    (update, 2, False),
]
