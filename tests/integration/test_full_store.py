"""A controller whose embedded etcd fills up: said, survived by what runs, and recovered from by the controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.store.etcd import EtcdStore
from controller.store.protocol import Delete, Put, StoreFull
from moorage.client import ApiProblem, Client
from moorage.wire import keys
from tests.integration.agent_world import AgentProcess, until
from tests.integration.processes import ControllerProcess, agent, eventually, ready, service

pytestmark = pytest.mark.etcd

BALLAST = keys.ROOT + "ballast/"


async def fill(store: EtcdStore, name: str) -> None:
    """With history alone where it is always the same key."""
    with pytest.raises(StoreFull):
        for number in range(2000):
            await store.commit([], [Put(f"{BALLAST}{name.format(number)}", b"%d" % (number % 10) * 50_000)])


async def test_a_full_store_is_said_survived_and_recovered_from(tmp_path: Path) -> None:
    controller = ControllerProcess(tmp_path / "c", MOOR_ETCD_QUOTA="4Mi")
    await controller.start()
    try:
        await controller.ready()
        host = agent(tmp_path, controller, 0, controller.token("agent"))
        await host.start()
        store = await EtcdStore.connect([controller.etcd])
        try:
            async with controller.client() as client:
                await eventually(lambda: ready(client, 1), "the node is ready")
                await _scenario(client, store, host)
        finally:
            await store.close()
            await host.kill()
    finally:
        await controller.end()


async def _scenario(client: Client, store: EtcdStore, host: AgentProcess) -> None:
    await client.put_job({"name": "before", **service(2)})
    await until(lambda: len(host.witness.running()) == 2, "what was applied before runs")
    running = host.witness.running()

    # What is alive fills it: nothing can be freed, so it stays said.
    await fill(store, "{}")
    with pytest.raises(ApiProblem) as refused:
        await client.put_job({"name": "refused", **service(1, labels={"text": "x" * 60})})
    assert (refused.value.problem.status, refused.value.code) == (507, "store_full")
    assert "MOOR_ETCD_QUOTA" in refused.value.problem.hint
    await eventually(lambda: says(client, "MiB are left after old history was removed"), "the trouble is said", 30)
    assert host.witness.running() == running
    assert [node.phase for node in await client.list_nodes()] == ["ready"]

    listing = await store.list(BALLAST)
    await store.commit([], [Delete(item.key) for item in listing.items])
    await eventually(lambda: says(client, ""), "the trouble is over", 40)
    await client.put_job({"name": "after", **service(1)})
    await until(lambda: len(host.witness.running()) == 3, "what was applied after it runs, too")

    # Old history fills it: the controller removes it by itself.
    await fill(store, "same")
    await eventually(lambda: applied(client, "later"), "the store takes writes again", 40)
    await until(lambda: len(host.witness.running()) == 4, "and what they want runs")
    assert running < host.witness.running()
    assert host.witness.doubles == []
    kinds = [event.kind for event in await client.list_events()]
    assert {"store_trouble", "store_recovered"} <= set(kinds)


async def says(client: Client, trouble: str) -> bool:
    said = (await client.cluster()).trouble
    return any(trouble in one for one in said) if trouble else not said


async def applied(client: Client, name: str) -> bool:
    try:
        await client.put_job({"name": name, **service(1)})
    except ApiProblem as refused:
        assert refused.code == "store_full"
        return False
    return True
