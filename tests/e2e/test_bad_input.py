"""What users and full disks do wrong: a clear error each time, and nothing lost or half done.

Two hosts. On the first one the agent's journal and the engine's data have small disks of their own (tmpfs), so that
each can be filled by itself. Everything is said through the real command; what runs is asked from the engines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.truth import running, wait_exactly
from tests.e2e.user import User, service
from tests.lab.alone import alone
from tests.lab.cluster import QUICK, Cluster
from tests.lab.processes import run, wait_for

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
SMALL, PLENTY = "h1", "h2"  # the host with the small disks, and the other one
GOOD = "kind: Job\nname: web\ngroups: {web: {count: COUNT, tasks: {server: {container: {image: 'busybox:1'}}}}}\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    cluster = Cluster("bad", 2, api_port=7970, env=QUICK)
    with alone(cluster.lab):
        cluster.down()  # of a run that was interrupted
        try:
            small = cluster.host(SMALL).data_dir
            _small_disk(small / "agent", "8M")
            _small_disk(small / "docker", "128M")
            cluster.up()
            yield cluster
        finally:
            cluster.down()


@pytest.fixture
def cluster(lab: Cluster) -> Iterator[Cluster]:
    user = User(lab)
    lab.controller.start()
    lab.controller.wait_ready()
    for host in lab.hosts:
        lab.start_agent(host)
    user.wait_for_nodes(len(lab.hosts))
    yield lab
    for name in user.nodes():
        user.patch_node(name, cordoned=False, draining=False)
    user.delete_all_jobs()
    wait_exactly(lab, {})


@pytest.fixture
def user(cluster: Cluster) -> User:
    return User(cluster)


def _small_disk(folder: Path, size: str) -> None:
    folder.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "moorage-test", str(folder))


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte more goes onto the disk of this folder, until the end."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert os.statvfs(folder).f_bavail == 0
    try:
        yield
    finally:
        ballast.unlink()


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Moor:
    """The command as a user has it."""

    def __init__(self, cluster: Cluster, folder: Path, token: str | None = None) -> None:
        self._folder = folder
        self._environ = {
            "MOOR_URL": cluster.controller.api_url,
            "MOOR_TOKEN": cluster.controller.token() if token is None else token,
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
        }

    def __call__(self, *arguments: str, timeout_s: float = 120) -> Said:
        command = [sys.executable, "-m", "moorage.cli", *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=timeout_s)
        return Said(done.returncode, done.stdout, done.stderr)

    def apply(self, job: str | Json, *options: str) -> Said:
        path = self._folder / "job.yaml"
        path.write_text(job if isinstance(job, str) else yaml.safe_dump(job))
        return self("apply", "-f", str(path), *options)


@pytest.fixture
def moor(cluster: Cluster, tmp_path: Path) -> Moor:
    return Moor(cluster, tmp_path)


def bomb() -> str:
    layers = [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(["x0: &x0 [a, a, a, a, a, a, a, a, a]", *layers, ""])


def huge() -> str:
    return GOOD.replace("COUNT", "1") + "# " + "x" * (5 << 20) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("count", "cuont").replace("COUNT", "1"), "groups.web.cuont: unknown field (did you mean count?)"),
        (GOOD.replace("container:", "resources: {memory: 64Mb}, container:").replace("COUNT", "1"), "did you mean 64M"),
        (GOOD.replace("COUNT", "-1"), "groups.web.count: must be at least 0, is -1"),
        (GOOD.replace("COUNT", "1").replace("name: web", "name: a/b"), "name: a/b holds a slash"),
        (huge(), "MiB large: at most 1 MiB a file"),
        (bomb(), "aliases counted as often as they are used"),
    ],
    ids=["unknown field", "wrong unit", "count of -1", "name with a slash", "5 MiB", "bomb"],
)
def test_a_file_that_is_wrong_is_refused_with_its_place_and_nothing_is_done(
    cluster: Cluster, user: User, moor: Moor, text: str, says: str
) -> None:
    said = moor.apply(text)

    assert said.code == 3
    assert says in said.err
    assert "nothing was done" in said.err
    assert user.job_names() == []


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"cuont": 1}, 422, "groups.web.cuont"),
        ({"count": -1}, 422, "groups.web.count"),
        ({"shutdown_delay": "3 parsecs"}, 422, "groups.web.shutdown_delay"),
        ({"tasks": {"server": {"container": {"image": "x" * (5 << 20)}}}}, 413, ""),
    ],
    ids=["unknown field", "count of -1", "wrong unit", "5 MiB"],
)
def test_the_api_refuses_the_same_from_who_does_not_use_the_command(
    cluster: Cluster, user: User, change: Json, status: int, says: str
) -> None:
    job = service("web", 1)
    job["groups"]["web"] |= change

    headers = {"Authorization": f"Bearer {cluster.controller.token()}"}
    answer = httpx.put(f"{cluster.controller.api_url}/v1/projects/default/jobs/web", json=job, headers=headers)

    assert (answer.status_code, says in answer.text) == (status, True)
    assert user.job_names() == []


@pytest.mark.parametrize("token", ["", "moor_0000000000000000_wrong"], ids=["no token", "wrong token"])
def test_without_a_valid_token_nothing_is_told_and_nothing_is_done(
    cluster: Cluster, user: User, tmp_path: Path, token: str
) -> None:
    stranger = Moor(cluster, tmp_path, token)

    for said in (stranger.apply(service("web", 1)), stranger("get", "nodes"), stranger("node", "drain", SMALL)):
        assert (said.code, said.out) == (6, "")
        assert "`moor login`" in said.err
    assert httpx.get(f"{cluster.controller.api_url}/v1/nodes").status_code == 401
    assert user.job_names() == []
    assert not user.nodes()[SMALL]["draining"]


def test_a_missing_image_fails_the_rollout_and_is_named(cluster: Cluster, moor: Moor) -> None:
    said = moor.apply(service("ghost", 1, image="no-such-image:7"))

    assert said.code == 9
    assert "image no-such-image:7 is not on this node" in said.err
    assert "moor describe job ghost" in said.err
    wait_exactly(cluster, {})


def test_a_command_that_does_not_exist_fails_the_rollout_and_is_named(cluster: Cluster, moor: Moor) -> None:
    job = service("nope", 1)
    job["groups"]["web"]["tasks"]["server"]["container"]["command"] = ["/no/such/program"]

    said = moor.apply(job)

    assert said.code == 9
    assert 'command "/no/such/program" does not exist in image busybox:1' in said.err
    wait_exactly(cluster, {})


def test_a_task_that_ends_at_once_is_no_success(cluster: Cluster, moor: Moor) -> None:
    said = moor.apply(service("crash", 1, command="echo out of luck; exit 3"))

    assert (said.code, "exited with code 3" in said.err) == (9, True)
    assert "out of luck" in moor("logs", "crash").out


def test_a_rollout_that_never_gets_healthy_says_what_its_check_says(cluster: Cluster, moor: Moor) -> None:
    job = service("sick", 1)
    check = {"exec": {"command": ["test", "-e", "/nope"]}, "interval": "200ms", "failures": 1, "start": "0s"}
    job["groups"]["web"]["tasks"]["server"] |= {"health": check, "stop": {"signal": "KILL"}}

    said = moor.apply(job, "--timeout", "3s")

    assert (said.code, "unhealthy: test exited with code 1" in said.err) == (8, True), said.err


def test_a_job_that_fits_nowhere_waits_says_why_and_runs_once_it_fits(cluster: Cluster, moor: Moor) -> None:
    job = service("big", 1)
    resources = job["groups"]["web"]["tasks"]["server"]["resources"]
    resources["memory"] = "64Gi"

    said = moor.apply(job, "--timeout", "3s")

    assert (said.code, "2 nodes: memory of the whole node is 4 GiB, wanted 64 GiB" in said.err) == (8, True)
    assert "wanted 64 GiB" in moor("explain", "big").out
    wait_exactly(cluster, {})
    resources["memory"] = "16Mi"
    assert moor.apply(job).code == 0
    wait_exactly(cluster, {"big": 1})


def test_of_two_writers_at_once_one_wins_and_the_other_is_told(cluster: Cluster, user: User) -> None:
    before = user.apply(service("web", 1))["revision"]
    url = f"{cluster.controller.api_url}/v1/projects/default/jobs/web"
    headers = {"Authorization": f"Bearer {cluster.controller.token()}", "If-Match": f'"{before}"'}

    def write(count: int) -> httpx.Response:
        return httpx.put(url, json=service("web", count), headers=headers)

    with ThreadPoolExecutor(6) as pool:
        answers = dict(zip(range(2, 8), pool.map(write, range(2, 8)), strict=True))

    assert sorted(answer.status_code for answer in answers.values()) == [200, 412, 412, 412, 412, 412]
    (won,) = (count for count, answer in answers.items() if answer.status_code == 200)
    assert all(
        answer.json()["code"] == "precondition_failed" for answer in answers.values() if answer.status_code == 412
    )
    wait_exactly(cluster, {"web": won})


def test_writers_without_a_precondition_follow_each_other(cluster: Cluster, user: User, moor: Moor) -> None:
    user.apply(service("web", 1))

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda count: moor("scale", "web", str(count), "--detach"), (2, 3, 4, 5)))

    assert [one.code for one in said] == [0, 0, 0, 0]
    wait_exactly(cluster, {"web": user.job("web")["spec"]["groups"]["web"]["count"]})


def test_an_etcd_that_is_killed_while_applying_is_waited_for(cluster: Cluster, moor: Moor) -> None:
    old = cluster.controller.etcd_pid()
    cluster.controller.kill_etcd()

    said = moor.apply(service("web", 3))

    assert said.code == 0, said.err
    assert cluster.controller.etcd_pid() != old
    wait_exactly(cluster, {"web": 3})


def test_an_etcd_that_hangs_while_applying_is_said_and_nothing_is_half_done(
    cluster: Cluster, user: User, moor: Moor
) -> None:
    etcd = cluster.controller.etcd_pid()
    os.kill(etcd, signal.SIGSTOP)
    try:
        said = moor.apply(service("web", 2))
    finally:
        os.kill(etcd, signal.SIGCONT)

    assert said.code == 7
    assert "the store (etcd) does not answer" in said.err
    assert "that is safe" in said.err
    # The write may have reached etcd while it hung: then all of it did. Sending it again is safe either way.
    wait_for(lambda: cluster.controller.answers("/readyz"), 30, "the controller to be ready again")
    assert moor.apply(service("web", 2)).code == 0
    wait_exactly(cluster, {"web": 2})


def test_a_full_disk_of_the_engine_stops_nothing_and_is_named(cluster: Cluster, user: User, moor: Moor) -> None:
    host = cluster.host(SMALL)
    user.patch_node(PLENTY, cordoned=True)
    user.apply(service("old", 2))
    before = {each.id for each in wait_exactly(cluster, {"old": 2})}
    with full(host.data_dir / "docker"):
        said = moor.apply(service("new", 1), "--timeout", "20s")
        assert said.code in (8, 9)
        assert "no disk space is left on this node" in said.err
        assert {each.id for each in running(cluster)} == before
        user.patch_node(PLENTY, cordoned=False)
        found = wait_exactly(cluster, {"old": 2, "new": 1})
        assert {each.host for each in found if each.job == "new"} == {PLENTY}
    assert {each.id for each in running(cluster) if each.job == "old"} == before


def test_a_full_disk_of_the_agent_stops_nothing_and_starts_go_on_when_there_is_room(
    cluster: Cluster, user: User, moor: Moor
) -> None:
    host = cluster.host(SMALL)
    user.patch_node(PLENTY, cordoned=True)
    user.apply(service("old", 2))
    before = {each.id for each in wait_exactly(cluster, {"old": 2})}
    with full(host.data_dir / "agent"):
        said = moor.apply(service("new", 1), "--timeout", "4s")
        assert said.code == 8
        assert "the node's disk is full: the agent's journal cannot be written" in said.err
        assert {each.id for each in running(cluster)} == before
    wait_exactly(cluster, {"old": 2, "new": 1})
    assert before <= {each.id for each in running(cluster)}


def test_an_agent_that_is_killed_on_a_full_disk_comes_back_when_there_is_room_and_remembers(
    cluster: Cluster, user: User
) -> None:
    host = cluster.host(SMALL)
    user.patch_node(PLENTY, cordoned=True)
    job = service("old", 2, disconnect={"replace_after": "10m"})
    user.apply(job)
    before = {each.id for each in wait_exactly(cluster, {"old": 2})}
    with full(host.data_dir / "agent"):
        host.kill_agent()
        cluster.start_agent(host)
        wait_for(lambda: user.nodes()[SMALL]["phase"] == "lost", 30, "the node to be lost")
        assert host.agent_running()
        assert {each.id for each in running(cluster)} == before
    user.wait_for_nodes(2)
    assert {each.id for each in wait_exactly(cluster, {"old": 2}, hold_s=3)} == before
    assert not list((host.data_dir / "agent").glob("*.unreadable"))


def test_the_only_node_is_drained_as_far_as_the_job_allows_and_says_so(
    cluster: Cluster, user: User, moor: Moor
) -> None:
    user.patch_node(PLENTY, cordoned=True)
    user.apply(service("web", 3))
    wait_exactly(cluster, {"web": 3})

    said = moor("node", "drain", SMALL, "--timeout", "5s")

    assert (said.code, f"still there: {SMALL} 2 allocations" in said.err) == (8, True)
    assert "1: draining" in moor("explain", "web").out
    user.patch_node(SMALL, draining=False)
    wait_exactly(cluster, {"web": 3})
