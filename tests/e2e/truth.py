"""What really runs, asked from the engines and never from our own status."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.lab.cluster import Cluster


@dataclass(frozen=True, slots=True, order=True)
class Running:
    """One running container of ours."""

    job: str
    group: str
    index: int
    task: str
    attempt: int
    host: str
    image: str
    id: str


def running(cluster: Cluster, hosts: Iterable[str] | None = None) -> list[Running]:
    wanted = set(hosts) if hosts is not None else None
    found = []
    for host in cluster.hosts:
        if wanted is None or host.name in wanted:
            for container in host.containers():
                label = container["Labels"]
                found.append(
                    Running(
                        job=label["moorage.job"],
                        group=label["moorage.group"],
                        index=int(label["moorage.index"]),
                        task=label["moorage.task"],
                        attempt=int(label["moorage.attempt"]),
                        host=host.name,
                        image=container["Image"],
                        id=container["Id"],
                    )
                )
    return sorted(found)


def differences(found: Iterable[Running], wanted: Mapping[str, int], tasks: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What keeps `found` from being exactly the wanted counts (of group `web`) of each job; empty: nothing does."""
    by_slot: dict[tuple[str, int, str], list[Running]] = defaultdict(list)
    for each in found:
        by_slot[each.job, each.index, each.task].append(each)
    expected = {
        (job, index, task)
        for job, count in wanted.items()
        for index in range(count)
        for task in tasks.get(job, ("server",))
    }
    said = [f"{slot} is lost" for slot in sorted(expected - by_slot.keys())]
    said += [f"{slot} is unwanted on {by_slot[slot][0].host}" for slot in sorted(by_slot.keys() - expected)]
    said += [
        f"{slot} is doubled: {[(r.host, r.attempt) for r in copies]}"
        for slot, copies in sorted(by_slot.items())
        if slot in expected and len(copies) > 1
    ]
    return said


def wait_exactly(
    cluster: Cluster,
    wanted: Mapping[str, int],
    *,
    tasks: Mapping[str, tuple[str, ...]] | None = None,
    timeout_s: float = 60,
    hold_s: float = 1.0,
) -> list[Running]:
    """Wait until exactly the wanted containers run and have done so for `hold_s`. Returns them."""
    until = time.monotonic() + timeout_s
    since: float | None = None
    while True:
        found = running(cluster)
        said = differences(found, wanted, tasks or {})
        now = time.monotonic()
        if not said:
            since = since or now
            if now - since >= hold_s:
                return found
        else:
            since = None
            if now > until:
                raise AssertionError(f"after {timeout_s:g} s: " + "; ".join(said[:12]))
        time.sleep(0.2)
