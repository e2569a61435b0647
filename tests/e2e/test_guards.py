"""What must hold although somebody sleeps through the change: fences between leaders, attempts in their order."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from tests.e2e.audit import Audit
from tests.e2e.truth import running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.cluster import QUICK, Cluster
from tests.lab.processes import wait_for

pytestmark = pytest.mark.e2e

LOST_AFTER_S = float(QUICK["MOOR_LOST_AFTER"])
LEASE_S = float(QUICK["MOOR_LEASE"])


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
        assert not audit.violations
        wait_exactly(cluster, {"web": 3})
    finally:
        cluster.controller.signal(signal.SIGCONT)
        for host in cluster.hosts:
            host.kill_agent()
        second.kill(signal.SIGTERM)


def test_a_new_attempt_waits_for_the_end_of_the_old_one_on_the_same_node(cluster: Cluster, user: User) -> None:
    """The slot fits on one node only, and its old attempt takes its time to stop there."""

    deaf = "trap '' TERM; while :; do sleep 1; done"
    here = [{"attribute": "node.name", "operator": "=", "value": "h3"}]
    job = service("stubborn", 1, command=deaf, constraints=here)
    job["groups"]["web"]["tasks"]["server"]["stop"] = {"timeout": "6s"}
    user.apply(job)
    first = wait_exactly(cluster, {"stubborn": 1})[0]
    host = cluster.host("h3")
    host.kill_agent()
    wait_for(lambda: user.nodes()["h3"]["phase"] == "lost", 30, "the node to be lost")
    time.sleep(3)  # replace_after has passed
    cluster.start_agent(host)
    job["groups"]["web"]["tasks"]["server"]["env"] = {"STAMP": "2"}
    user.apply(job)

    def renewed() -> bool:
        found = running(cluster)
        copies = Counter(each.index for each in found)
        assert not copies or max(copies.values()) == 1, f"two attempts at a time: {found}"
        return bool(found) and found[0].attempt > first.attempt

    wait_for(renewed, 60, "a new attempt")
    wait_exactly(cluster, {"stubborn": 1})
