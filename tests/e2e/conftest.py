"""One lab of three hosts for the whole suite; every scenario brings its own jobs and takes them away again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.user import User
from tests.lab import image
from tests.lab.cluster import QUICK, Cluster


@pytest.fixture(scope="session")
def lab() -> Iterator[Cluster]:
    cluster = Cluster("e2e", 3, api_port=7170, env=QUICK)
    cluster.down()  # of a run that was interrupted
    try:
        cluster.up()
        for host in cluster.hosts:
            image.load(host.engine.socket, "busybox:2")
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def cluster(lab: Cluster) -> Iterator[Cluster]:
    """The lab, whole: all hosts ready before the scenario, and mended after it."""
    user = User(lab)
    mend(lab)
    user.wait_for_nodes(len(lab.hosts))
    yield lab
    mend(lab)
    user.delete_all_jobs()


@pytest.fixture
def user(cluster: Cluster) -> User:
    return User(cluster)


def mend(lab: Cluster) -> None:
    """Bring back whatever a scenario has left broken."""
    for host in lab.hosts:
        lab.underlay.heal(host.name)
        host.engine.start()
    lab.controller.start()
    lab.controller.wait_ready()
    for host in lab.hosts:
        lab.start_agent(host)
