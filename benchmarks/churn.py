"""How many allocations a second go from apply to running, through everything of ours but engine and kernel.

Real etcd, a real controller process, fifty agent processes with only driver and netlink replaced and their journals on
disk. An independent watcher on etcd counts what reports itself running. The floor in the same run: the least that
etcd must do for it, two guarded puts an allocation, straight from one process.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.fakes import FakeHosts, sleepers
from benchmarks.measure import as_installed, cpu_s
from benchmarks.table import Figure, parser, report
from controller.store.etcd import EtcdStore
from controller.store.protocol import Absent, Changes, Put
from moorage.wire import keys
from moorage.wire.store_pb2 import RUNNING, AllocStatus


def main(arguments: list[str]) -> int:
    options = parser("churn", __doc__.partition("\n")[0])
    options.add_argument("--agents", type=int, default=50)
    options.add_argument("--jobs", type=int, default=50)
    options.add_argument("--count", type=int, default=200, help="allocations a job")
    given = options.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="moor-churn-"))
    as_installed(folder)
    hosts = FakeHosts("churn", given.agents, folder, api_port=7470)
    try:
        hosts.up()
        figures, notes = asyncio.run(_measure(hosts, given.jobs, given.count))
    finally:
        hosts.down()
        shutil.rmtree(folder, ignore_errors=True)
    title = f"churn: {given.jobs * given.count} allocations, {given.agents} agents"
    report(title, figures, notes, given.json)
    return 0


async def _measure(hosts: FakeHosts, jobs: int, count: int) -> tuple[list[Figure], dict[str, str]]:
    total = jobs * count
    store = await EtcdStore.connect([hosts.etcd])
    await hosts.wait_for_nodes()
    await _warm_up(hosts, store)
    before, own = _cpu(hosts), time.process_time()
    counted = asyncio.create_task(_count_running(store, total))
    await asyncio.sleep(0.5)
    started = time.monotonic()
    await hosts.apply([sleepers(f"job{number}", count) for number in range(jobs)])
    applied = time.monotonic() - started
    taken = await asyncio.wait_for(counted, 300) - started
    spent = {name: (now - before[name]) / total * 1000 for name, now in _cpu(hosts).items()}
    own = time.process_time() - own
    floor = await _floor(store, total)
    await store.close()
    rate = total / taken
    figures = [
        Figure("allocations_per_s", rate, ">= 1000"),
        Figure("controller_cpu_s_per_1000", spent["controller"]),
        Figure("share_of_etcd_floor", rate / floor),
    ]
    notes = {
        "apply": f"{jobs} jobs in {applied:.2f} s; all running after {taken:.2f} s",
        "floor": f"{floor:.0f} allocations/s as two guarded puts each, straight to the same etcd",
        "CPU s per 1,000 allocations": ", ".join(f"{name} {cpu:.3f}" for name, cpu in spent.items()),
        "this process": f"{own:.1f} s of CPU for watching, of two cores",
    }
    return figures, notes


def _cpu(hosts: FakeHosts) -> dict[str, float]:
    """Seconds so far, of all that takes part."""
    pids = {"controller": [hosts.controller_pid], "agents": hosts.agent_pids, "etcd": [hosts.etcd_pid]}
    return {name: cpu_s(each) for name, each in pids.items()}


async def _warm_up(hosts: FakeHosts, store: EtcdStore) -> None:
    counted = asyncio.create_task(_count_running(store, 100))
    await asyncio.sleep(0.2)
    await hosts.apply([sleepers("warm", 100)])
    await asyncio.wait_for(counted, 60)


async def _count_running(store: EtcdStore, wanted: int) -> float:
    """Monotonic time at which `wanted` more allocations have reported themselves running."""
    seen: set[str] = set()
    async for batch in store.watch(keys.STATUSES):
        if isinstance(batch, Changes):
            for each in batch.puts:
                if each.key not in seen and AllocStatus.FromString(each.value).phase == RUNNING:
                    seen.add(each.key)
            if len(seen) >= wanted:
                return time.monotonic()
    raise RuntimeError("the watch ended")


async def _floor(store: EtcdStore, total: int) -> float:
    """Allocations a second if nothing but the puts were to be done: 120 a transaction, 4 in flight."""
    value = b"x" * 300
    waves = [range(start, min(start + 120, total)) for start in range(0, total, 120)]
    started = time.monotonic()
    for kind in ("alloc", "status"):
        gate = asyncio.Semaphore(4)

        async def write(numbers: range, kind: str = kind, gate: asyncio.Semaphore = gate) -> None:
            async with gate:
                names = [f"/floor/{kind}/{number}" for number in numbers]
                await store.commit([Absent(name) for name in names], [Put(name, value) for name in names])

        await asyncio.gather(*(write(numbers) for numbers in waves))
    taken = time.monotonic() - started
    with suppress(Exception):
        await store.compact((await store.status()).revision)
    return total / taken
