"""Health checks against real containers: asked inside the group's namespace, acted on, and said.

The servers listen on 127.0.0.1 of groups that have `networks: none`, so whoever asks anywhere else gets no answer.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.truth import running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.cluster import QUICK, Cluster
from tests.lab.processes import wait_for

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
SERVER = "mkdir -p /tmp/w; echo well > /tmp/w/ok; exec httpd -f -p 127.0.0.1:8080 -h /tmp/w"
FALLS_ILL = "mkdir -p /tmp/w; echo well > /tmp/w/ok; (sleep 3; rm /tmp/w/ok) & httpd -f -p 127.0.0.1:8080 -h /tmp/w"
HTTP = {"http": {"port": "web", "path": "/ok"}}
TCP = {"tcp": {"port": "web"}}
EXEC = {"exec": {"command": ["sh", "-c", "test -e /tmp/w/ok || { echo has lost its page; exit 4; }"]}}
AGENT_MIB = 90


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lab = Cluster("health", 1, api_port=8270, env=QUICK)
    lab.down()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture
def user(cluster: Cluster) -> Iterator[User]:
    user = User(cluster)
    user.wait_for_nodes(1)
    yield user
    user.delete_all_jobs()


def checked(name: str, command: str, probe: Json, **group: Any) -> Json:
    job = service(name, 1, command=command, networks="none", ports={"web": 8080}, **group)
    timing = {"interval": "300ms", "timeout": "2s", "start": "5s", "failures": 2}
    job["groups"]["web"]["tasks"]["server"]["health"] = {**probe, **timing}
    return job


def health(user: User, job: str) -> list[str]:
    return [allocation["health"] for allocation in user.allocations(job)]


@pytest.mark.parametrize("probe", [HTTP, TCP, EXEC], ids=["http", "tcp", "exec"])
def test_a_server_on_its_own_loopback_is_found_healthy_from_inside_its_namespace(
    cluster: Cluster, user: User, probe: Json
) -> None:
    user.apply(checked("calm", SERVER, probe))
    [found] = wait_exactly(cluster, {"calm": 1})
    wait_for(lambda: health(user, "calm") == ["healthy"], 20, "it to be healthy")
    host = cluster.hosts[0]
    from_outside = ["nsenter", f"--net=/run/netns/{host.namespace}", "busybox", "nc", "127.0.0.1", "8080"]
    assert subprocess.run(from_outside, input=b"", capture_output=True).returncode != 0, "nobody else can ask it"
    pid = host.engine.pid_of(found.id)
    from_inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "wget", "-qO-", "http://127.0.0.1:8080/ok"]
    assert subprocess.run(from_inside, capture_output=True, check=True).stdout == b"well\n"


@pytest.mark.parametrize(
    ("probe", "reason"),
    [(HTTP, "unhealthy: /ok answered 404"), (EXEC, "unhealthy: sh exited with code 4: has lost its page")],
    ids=["http", "exec"],
)
def test_one_that_falls_ill_is_restarted_by_its_policy_then_replaced_and_the_reason_is_said(
    cluster: Cluster, user: User, probe: Json, reason: str
) -> None:
    user.apply(checked("ill", FALLS_ILL, probe, restart={"attempts": 1, "interval": "1m", "delay": "200ms"}))
    [first] = wait_exactly(cluster, {"ill": 1}, hold_s=0)
    namespace = cluster.hosts[0].namespace_inode(first.id)
    said: set[str] = set()

    def restarted() -> bool:
        said.update(task["message"] for each in user.allocations("ill") for task in each["tasks"])
        return any(each.attempt == 1 and each.id != first.id for each in running(cluster))

    wait_for(restarted, 30, "a restart on the node", pause_s=0.05)
    [second] = running(cluster)
    assert cluster.hosts[0].namespace_inode(second.id) == namespace, "the group keeps its namespace"
    assert reason in said
    wait_for(lambda: any(each.attempt == 2 for each in running(cluster)), 30, "a new attempt")
    events = str(user.job("ill")["status"]["events"])
    assert f"{reason}; restarted once within 60 s" in events, events


def test_where_nobody_listens_it_never_becomes_healthy_and_the_reason_is_said(cluster: Cluster, user: User) -> None:
    user.apply(checked("mute", "sleep 1000", TCP))

    def told() -> bool:
        return any("port 8080: " in task["message"] for each in user.allocations("mute") for task in each["tasks"])

    wait_for(told, 30, "the refused connection to be told", pause_s=0.05)
    messages = [task["message"] for each in user.allocations("mute") for task in each["tasks"]]
    assert "unhealthy: port 8080: connection refused" in messages, messages


def test_after_all_this_the_agent_is_still_small(cluster: Cluster) -> None:
    text = Path(f"/proc/{cluster.hosts[0].agent_pid()}/status").read_text()
    status = dict(line.split(":", 1) for line in text.splitlines())
    resident_mib = int(status["VmRSS"].split()[0]) / 1024
    assert resident_mib < AGENT_MIB, f"{resident_mib:.0f} MiB"
