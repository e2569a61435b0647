"""What must hold although somebody sleeps through the change: fences between leaders, attempts in their order."""

from __future__ import annotations

import signal
import time

import pytest

from tests.e2e.audit import Audit
from tests.e2e.truth import running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.cluster import QUICK, Cluster
from tests.lab.processes import wait_for

pytestmark = pytest.mark.e2e

LOST_AFTER_S = float(QUICK["MOOR_LOST_AFTER"])
LEASE_S = float(QUICK["MOOR_LEASE"])
REPLACE_AFTER_S = 2.0  # of the jobs that `service` makes


def test_a_leader_that_slept_through_its_lease_writes_nothing_when_it_wakes(cluster: Cluster, user: User) -> None:
    user.apply(service("web", 3))
    wait_exactly(cluster, {"web": 3})
    second = cluster.second_controller()
    second.start()
    second.wait_ready()
    for host in cluster.hosts:
        host.kill_agent()
        cluster.start_agent(host, also=second)
    user.wait_for_nodes(3)
    try:
        with Audit(cluster.controller.etcd_endpoint) as audit:
            cluster.controller.signal(signal.SIGSTOP)
            wait_for(lambda: audit.terms >= 2, 4 * LEASE_S, "the second controller to lead")
            time.sleep(LOST_AFTER_S)  # by now every node is silent to the first one
            cluster.controller.signal(signal.SIGCONT)
            time.sleep(2 * LOST_AFTER_S)
        assert audit.written > 0
        assert not audit.violations, audit.violations[:3]
        wait_exactly(cluster, {"web": 3})
    finally:
        cluster.controller.signal(signal.SIGCONT)
        for host in cluster.hosts:
            host.kill_agent()
        second.kill(signal.SIGTERM)


def test_a_new_attempt_waits_for_the_end_of_the_old_one_on_the_same_node(cluster: Cluster, user: User) -> None:
    """A slot moves from h3 to h2 while h3 is away, and must go back at the very moment when h3 returns with it."""
    deaf = "trap '' TERM; while :; do sleep 1; done"
    two = [{"attribute": "node.name", "operator": "in", "value": ["h2", "h3"]}]
    job = service("stubborn", 1, command=deaf, constraints=two)
    job["groups"]["web"]["tasks"]["server"]["stop"] = {"timeout": "8s"}
    h2, h3 = cluster.host("h2"), cluster.host("h3")
    user.patch_node("h2", cordoned=True)
    user.apply(job)
    assert wait_exactly(cluster, {"stubborn": 1})[0].host == "h3"
    user.patch_node("h2", cordoned=False)
    h3.kill_agent()
    wait_for(lambda: running(cluster, ["h2"]), 30, "a second attempt on h2")
    h2.kill_agent()
    wait_for(lambda: user.nodes()["h2"]["phase"] == "lost", 30, "h2 to be lost")
    time.sleep(REPLACE_AFTER_S + 1)
    cluster.start_agent(h3)

    def third() -> bool:
        found = running(cluster, ["h3"])
        assert len(found) <= 1, f"two attempts at a time: {found}"
        return bool(found) and found[0].attempt >= 3

    wait_for(third, 60, "a third attempt on h3", pause_s=0.1)
    cluster.start_agent(h2)
    wait_exactly(cluster, {"stubborn": 1})
