"""One contract for every driver: the fake, Debian 12's Docker and Debian 13's.

A `Bench` is a driver with what a test needs around it: a way to build launches, to make its engine go away and come
back, to kill behind its back, and to make the driver anew as after a restart of the agent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from agent.cgroup import Cgroups, container_directory, parent
from agent.drivers import labels
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_engine import Refused
from agent.drivers.fake import FakeDriver, FakeEngine, FakeNetns
from agent.drivers.netns import BoundNetns, NetnsProvider, PausedNetns, provider_for
from agent.drivers.protocol import (
    Driver,
    DriverError,
    EngineAway,
    ExecDriver,
    Exit,
    Handle,
    HostNetwork,
    Launch,
    LogsDriver,
    Netns,
    TaskId,
)
from moorage.wire.spec_pb2 import PULL_ALWAYS, PULL_NEVER, ContainerSpec, LogPolicy, Resources, TaskSpec
from netvirt.netlink.namespace import inode
from tests.contract.engines import IMAGE, PrivateEngine, debian12_engine, debian13_engine, registered

MIB = 1 << 20
SLEEP = ("sleep", "1000")
QUICK = 20.0


class AnyDriver(Driver, ExecDriver, LogsDriver, Protocol):
    """All that a container driver can do."""


class Bench(Protocol):
    driver: AnyDriver
    netns: NetnsProvider

    def restart_driver(self) -> None: ...
    async def engine_away(self) -> None: ...
    async def engine_back(self) -> None: ...
    async def kill_behind_its_back(self, handle: Handle) -> None: ...
    def parent(self, alloc: str) -> str: ...


class FakeBench:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.engine = FakeEngine(state=state, missing_images=["missing:1"])
        self.driver: AnyDriver = FakeDriver(self.engine)
        self.netns: NetnsProvider = FakeNetns()

    def restart_driver(self) -> None:
        """The process has gone too: all that is left is the file."""
        self.engine = FakeEngine(state=self.state, missing_images=["missing:1"])
        self.driver = FakeDriver(self.engine)

    async def engine_away(self) -> None:
        self.engine.away = True

    async def engine_back(self) -> None:
        self.engine.away = False

    async def kill_behind_its_back(self, handle: Handle) -> None:
        self.engine.kill(handle.engine_id)

    def parent(self, alloc: str) -> str:
        return f"/fake/{alloc}"


class DockerBench:
    def __init__(self, private: PrivateEngine) -> None:
        self.private = private
        self.pids: dict[str, int] = {}
        self.node = f"n{next(_numbers)}"
        self.driver: AnyDriver = self.new_driver()
        self.netns: NetnsProvider = BoundNetns(private.namespaces, private.helper)

    def new_driver(self) -> DockerDriver:
        return DockerDriver(str(self.private.socket), "test", self.node, netns_links=self.private.links)

    def restart_driver(self) -> None:
        self.driver = self.new_driver()

    async def engine_away(self) -> None:
        await asyncio.to_thread(self.private.kill)

    async def engine_back(self) -> None:
        await asyncio.to_thread(self.private.start)

    async def kill_behind_its_back(self, handle: Handle) -> None:
        procs = Path("/sys/fs/cgroup/pids") / container_directory(self.parent(handle.id.alloc), handle.engine_id)
        for pid in (procs / "cgroup.procs").read_text().split():
            os.kill(int(pid), 9)

    def parent(self, alloc: str) -> str:
        return parent(alloc, "cgroupfs", self.private.cgroup_root)


_numbers = count()
ENGINES = {"docker20": debian12_engine, "docker26": debian13_engine}
REAL = [pytest.param(name, marks=pytest.mark.docker) for name in ENGINES]


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, PrivateEngine]]:
    """Each is started when first asked for, and serves the whole module."""
    started: dict[str, PrivateEngine] = {}
    yield started
    for engine in started.values():
        engine.close()


def _engine(engines: dict[str, PrivateEngine], name: str) -> PrivateEngine:
    if name not in engines:
        engines[name] = ENGINES[name]()
        engines[name].open()
    return engines[name]


@pytest.fixture(params=["fake", *REAL])
async def bench(
    request: pytest.FixtureRequest, engines: dict[str, PrivateEngine], tmp_path: Path
) -> AsyncIterator[FakeBench | DockerBench]:
    found = FakeBench(tmp_path / "state") if request.param == "fake" else DockerBench(_engine(engines, request.param))
    yield found
    await _clean(found)


@pytest.fixture(params=REAL)
async def docker(request: pytest.FixtureRequest, engines: dict[str, PrivateEngine]) -> AsyncIterator[DockerBench]:
    found = DockerBench(_engine(engines, request.param))
    yield found
    await _clean(found)


async def _clean(bench: FakeBench | DockerBench) -> None:
    for observed in await bench.driver.recover():
        await bench.driver.destroy(observed.handle)
    for alloc in await bench.netns.names():
        await bench.netns.remove(alloc)
    await bench.driver.close()


def launch(
    bench: Bench,
    command: Sequence[str],
    *,
    alloc: str = "a1",
    task: str = "server",
    run: int = 0,
    resources: Resources | None = None,
    container: ContainerSpec | None = None,
    env: dict[str, str] | None = None,
) -> Launch:
    limits = resources or Resources(cpu_millis=100, memory_bytes=64 * MIB, pids=64)
    spec = TaskSpec(
        name=task,
        container=container or ContainerSpec(image=IMAGE),
        resources=limits,
        logs=LogPolicy(max_size_bytes=MIB, max_files=2),
    )
    return Launch(
        id=TaskId(alloc, task, run),
        spec=spec,
        env=env or {},
        command=command,
        entrypoint=(),
        labels={labels.JOB: "shop", labels.INDEX: "2"},
        cgroup_parent=bench.parent(alloc),
        hostname="web-2",
    )


async def started(bench: Bench, *command: str, alloc: str = "a1", run: int = 0, **more: object) -> Handle:
    wish = launch(bench, command, alloc=alloc, run=run, **more)  # type: ignore[arg-type]
    async for _ in bench.driver.prepare(wish.spec):
        pass
    return await bench.driver.start(wish, await bench.netns.ensure(alloc))


async def ended(bench: Bench, handle: Handle) -> Exit:
    return await asyncio.wait_for(bench.driver.wait(handle), QUICK)


async def output(bench: Bench, handle: Handle, *, follow: bool = False, tail: int = -1) -> bytes:
    logs = bench.driver.logs(handle, follow=follow, tail=tail, since_ms=0, timestamps=False)
    return b"".join([chunk.data async for chunk in logs])


async def test_a_task_runs_and_its_exit_code_is_told(bench: Bench) -> None:
    assert (await ended(bench, await started(bench, "sh", "-c", "exit 3"))).code == 3
    assert (await ended(bench, await started(bench, "true", run=1))).code == 0


async def test_an_end_is_told_to_everyone_who_waits_and_also_to_those_who_come_later(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "sleep 0.2; exit 7")
    early = await asyncio.gather(ended(bench, handle), ended(bench, handle))
    assert [end.code for end in (*early, await ended(bench, handle))] == [7, 7, 7]


async def test_starting_what_runs_already_changes_nothing(bench: Bench) -> None:
    first = await started(bench, *SLEEP)
    assert await started(bench, *SLEEP) == first
    assert [observed.handle for observed in await bench.driver.recover()] == [first]


async def test_starting_what_has_ended_does_not_run_it_again(bench: Bench) -> None:
    first = await started(bench, "sh", "-c", "exit 5")
    await ended(bench, first)
    again = await started(bench, "sh", "-c", "exit 5")
    assert (again, (await ended(bench, again)).code) == (first, 5)


async def test_stop_lets_a_task_end_by_itself(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "trap 'exit 4' TERM; sleep 1000 & wait")
    await asyncio.sleep(0.3)  # until the shell has set its trap
    assert (await bench.driver.stop(handle, "TERM", QUICK)).code == 4


async def test_stop_sends_the_signal_that_was_asked_for(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "trap 'exit 5' INT; sleep 1000 & wait")
    await asyncio.sleep(0.3)
    assert (await bench.driver.stop(handle, "INT", QUICK)).code == 5


async def test_stop_kills_what_does_not_listen(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "trap '' TERM; sleep 1000")
    before = asyncio.get_running_loop().time()
    end = await bench.driver.stop(handle, "TERM", 0.4)
    took = asyncio.get_running_loop().time() - before
    assert (end.code, end.oom_killed) == (137, False)
    assert 0.4 <= took < 5


async def test_stopping_and_destroying_what_has_gone_is_no_error(bench: Bench) -> None:
    handle = await started(bench, "true")
    await ended(bench, handle)
    assert (await bench.driver.stop(handle, "TERM", 1)).code == 0
    await bench.driver.destroy(handle)
    await bench.driver.destroy(handle)
    assert await bench.driver.recover() == []


async def test_destroying_what_runs_ends_it(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    waiting = asyncio.ensure_future(ended(bench, handle))
    await asyncio.sleep(0)
    await bench.driver.destroy(handle)
    await waiting
    assert await bench.driver.recover() == []


async def test_a_task_that_is_killed_from_outside_is_reported(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    await bench.kill_behind_its_back(handle)
    end = await ended(bench, handle)
    assert (end.code, end.oom_killed) == (137, False)


async def test_each_task_carries_whose_it_is(bench: Bench) -> None:
    await started(bench, *SLEEP)
    [observed] = await bench.driver.recover()
    assert observed.handle.id == TaskId("a1", "server", 0)
    assert observed.labels[labels.JOB] == "shop"
    assert observed.labels[labels.INDEX] == "2"
    assert observed.labels[labels.CLUSTER] == "test"


async def test_a_driver_made_anew_finds_what_runs_and_how_the_rest_ended(bench: Bench) -> None:
    running = await started(bench, *SLEEP)
    over = await started(bench, "sh", "-c", "exit 9", run=1)
    await ended(bench, over)
    await bench.driver.close()
    bench.restart_driver()
    found = {observed.handle: (observed.running, observed.exit) for observed in await bench.driver.recover()}
    assert found[running] == (True, None)
    assert found[over] == (False, await ended(bench, over))
    assert (await ended(bench, over)).code == 9
    await bench.kill_behind_its_back(running)
    assert (await ended(bench, running)).code == 137


async def test_an_end_while_nobody_followed_is_told_to_the_next_driver(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    await bench.driver.close()
    await bench.kill_behind_its_back(handle)
    bench.restart_driver()
    assert (await ended(bench, handle)).code == 137


async def test_an_engine_that_is_away_is_unknown_and_not_an_end(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    waiting = asyncio.ensure_future(bench.driver.wait(handle))
    await asyncio.sleep(0)
    await bench.engine_away()
    with pytest.raises(EngineAway):
        await bench.driver.recover()
    with pytest.raises(EngineAway):
        await started(bench, *SLEEP, run=1)
    with pytest.raises(EngineAway):
        await bench.driver.signal(handle, "TERM")
    assert not (await bench.driver.fingerprint()).healthy
    assert not waiting.done()
    await bench.engine_back()
    assert (await bench.driver.fingerprint()).healthy
    assert not waiting.done()
    await bench.driver.stop(handle, "KILL", QUICK)
    assert (await asyncio.wait_for(waiting, QUICK)).code == 137


async def test_an_end_while_the_engine_was_away_is_told_when_it_is_back(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    survivor = await started(bench, *SLEEP, alloc="a2")
    waiting = asyncio.ensure_future(bench.driver.wait(handle))
    other = asyncio.ensure_future(bench.driver.wait(survivor))
    await asyncio.sleep(0)
    await bench.engine_away()
    await bench.kill_behind_its_back(handle)
    await bench.engine_back()
    end = await asyncio.wait_for(waiting, QUICK)
    assert end.code in (137, 255)  # 255: newer engines only know that it ended
    assert not other.done()
    other.cancel()


async def test_a_missing_image_says_so(bench: Bench) -> None:
    wish = launch(bench, ["true"], container=ContainerSpec(image="missing:1"))
    with pytest.raises(DriverError, match=r"image missing:1 is not on this node, and (no registry answered|.*login)"):
        async for _ in bench.driver.prepare(wish.spec):
            pass


async def test_pull_never_does_not_ask_a_registry(bench: Bench) -> None:
    wish = launch(bench, ["true"], container=ContainerSpec(image="missing:1", pull=PULL_NEVER))
    with pytest.raises(DriverError, match="missing:1 is not on this node, and its pull policy is never") as failure:
        async for _ in bench.driver.prepare(wish.spec):
            pass
    assert not failure.value.retry


async def test_a_missing_command_says_so_and_leaves_nothing_behind(bench: Bench) -> None:
    with pytest.raises(DriverError, match='command "nope" does not exist in image') as failure:
        await started(bench, "nope")
    assert not failure.value.retry
    assert await bench.driver.recover() == []


async def test_what_a_task_prints_is_kept(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "echo one; echo two; echo three")
    await ended(bench, handle)
    assert await output(bench, handle) == b"one\ntwo\nthree\n"
    assert await output(bench, handle, tail=1) == b"three\n"


async def test_logs_are_followed_to_the_end_of_the_task(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "echo one; sleep 0.3; exit 0")
    assert await asyncio.wait_for(output(bench, handle, follow=True), QUICK) == b"one\n"


async def test_following_ends_at_once_when_the_reader_goes(bench: Bench) -> None:
    handle = await started(bench, "sh", "-c", "echo one; sleep 1000")
    async with asyncio.timeout(QUICK):
        async with aclosing(bench.driver.logs(handle, follow=True, tail=-1, since_ms=0, timestamps=False)) as logs:  # type: ignore[type-var]
            async for chunk in logs:
                assert chunk.data == b"one\n"
                break
    reading = asyncio.ensure_future(output(bench, handle, follow=True))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reading, 1)


async def test_a_command_runs_inside_a_task(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    assert await bench.driver.run(handle, ["sh", "-c", "echo well; exit 6"], QUICK) == (6, b"well\n")
    with pytest.raises(DriverError, match=r"did not end within 0\.3 s"):
        await bench.driver.run(handle, ["sleep", "500"], 0.3)
    assert (await bench.driver.stop(handle, "KILL", QUICK)).code == 137


async def test_a_running_task_shows_what_it_uses(bench: Bench) -> None:
    handle = await started(bench, *SLEEP)
    used = await bench.driver.stats(handle)
    assert used.pids == 1
    assert 0 < used.memory_bytes < 64 * MIB


async def test_limits_are_in_the_cgroup_files(docker: DockerBench) -> None:
    wish = Resources(cpu_millis=250, cpu_limit_millis=500, memory_bytes=32 * MIB, memory_limit_bytes=48 * MIB, pids=77)
    handle = await started(docker, *SLEEP, resources=wish)
    found = Cgroups().limits(container_directory(docker.parent("a1"), handle.engine_id))
    assert found.cpu_millis == 500
    assert found.memory_bytes == 48 * MIB
    assert found.pids == 77
    assert found.cpu_weight == 256


async def test_a_task_over_its_memory_is_told_to_be_out_of_memory(docker: DockerBench) -> None:
    limits = Resources(cpu_millis=500, memory_bytes=16 * MIB, pids=64)
    eater = "head -c 200000000 /dev/zero | tail"
    itself = await started(docker, "tail", "/dev/zero", resources=limits)
    child = await started(docker, "sh", "-c", f"({eater}); exit 137", resources=limits, run=1)
    ends = [await ended(docker, itself), await ended(docker, child)]
    assert [(end.code, end.oom_killed) for end in ends] == [(137, True), (137, True)]


async def test_a_namespace_is_joined_and_survives_tasks_and_the_engine(docker: DockerBench) -> None:
    namespace = await docker.netns.ensure("a1")
    before = inode(Path(namespace.path))
    first = await started(docker, *SLEEP)
    second = await started(docker, *SLEEP, run=1)
    assert await _inode_inside(docker, first) == await _inode_inside(docker, second) == before
    await docker.driver.stop(first, "KILL", QUICK)
    await docker.engine_away()
    await docker.engine_back()
    third = await started(docker, *SLEEP, run=2)
    assert await _inode_inside(docker, second) == await _inode_inside(docker, third) == before
    assert (await docker.netns.ensure("a1")) == namespace


async def test_a_group_on_the_nodes_network_shares_it(docker: DockerBench) -> None:
    wish = launch(docker, SLEEP)
    handle = await docker.driver.start(wish, HostNetwork())
    assert await _inode_inside(docker, handle) == inode(Path("/proc/self/ns/net"))


async def test_a_start_without_a_prepared_namespace_is_refused(docker: DockerBench) -> None:
    with pytest.raises(DriverError, match="no network namespace is prepared for container"):
        await docker.driver.start(launch(docker, SLEEP), Netns(str(docker.private.namespaces.path("nowhere"))))
    assert await docker.driver.recover() == []


async def test_a_start_that_was_interrupted_after_create_is_finished(docker: DockerBench) -> None:
    wish = launch(docker, SLEEP)
    namespace = await docker.netns.ensure("a1")
    handle = await docker.driver.start(wish, namespace)
    twin = await _created_and_never_run(docker, handle)
    again = await docker.driver.start(wish, namespace)
    assert again.engine_id == twin
    assert [observed.running for observed in await docker.driver.recover()] == [True]


async def test_what_was_created_for_another_launch_is_made_anew(docker: DockerBench) -> None:
    namespace = await docker.netns.ensure("a1")
    handle = await docker.driver.start(launch(docker, SLEEP), namespace)
    twin = await _created_and_never_run(docker, handle)
    again = await docker.driver.start(launch(docker, SLEEP, env={"NEW": "1"}), namespace)
    assert again.engine_id != twin
    assert await docker.driver.run(again, ["sh", "-c", "echo $NEW"], QUICK) == (0, b"1\n")


async def test_stopping_what_was_made_and_never_started_does_not_wait_for_an_end(docker: DockerBench) -> None:
    namespace = await docker.netns.ensure("a1")
    handle = await docker.driver.start(launch(docker, SLEEP), namespace)
    await _created_and_never_run(docker, handle)
    [observed] = await docker.driver.recover()
    end = await asyncio.wait_for(docker.driver.stop(observed.handle, "TERM", 1), QUICK)
    assert end.message == "it was made and never started"


async def test_a_copy_that_somebody_made_of_a_task_is_not_taken_for_it(docker: DockerBench) -> None:
    """An image committed from a container passes on its labels."""
    engine = docker.private.engine
    handle = await started(docker, *SLEEP)
    engine.json("POST", "/commit", "commit", params={"container": handle.engine_id, "repo": "debug", "tag": "1"})
    copy = {"Image": "debug:1", "HostConfig": {"NetworkMode": "none"}}
    made = engine.json("POST", "/containers/create", "create", params={"name": f"debug-{docker.node}"}, body=copy)
    inherited = engine.json("GET", f"/containers/{made['Id']}/json", "inspect")["Config"]["Labels"]
    assert inherited[labels.ALLOC] == "a1"
    assert [observed.handle for observed in await docker.driver.recover()] == [handle]
    engine.json("DELETE", f"/containers/{made['Id']}", "remove")
    docker.private.remove_image("debug:1")


async def test_the_engine_turns_logs_over_before_they_fill_the_disk(docker: DockerBench) -> None:
    wish = launch(docker, ["sh", "-c", "seq 1 30000; sleep 1000"])
    wish.spec.logs.CopyFrom(LogPolicy(max_size_bytes=100_000, max_files=3))
    handle = await docker.driver.start(wish, await docker.netns.ensure("a1"))
    engine = docker.private.engine
    found = engine.json("GET", f"/containers/{handle.engine_id}/json", "inspect")
    assert found["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "100000", "max-file": "3"},
    }
    folder = docker.private.folder / "data" / "containers" / handle.engine_id
    async with asyncio.timeout(QUICK):
        while (await output(docker, handle, tail=1)) != b"30000\n":  # noqa: ASYNC110 — the condition is in the engine
            await asyncio.sleep(0.1)
    files = {path.name: path.stat().st_size for path in folder.glob("*-json.log*")}
    assert len(files) == 3 and max(files.values()) <= 101_000, files


async def test_a_command_that_hangs_keeps_no_other_from_its_turn(docker: DockerBench) -> None:
    handle = await started(docker, *SLEEP)
    hanging = [asyncio.ensure_future(docker.driver.run(handle, ["sleep", "4"], QUICK)) for _ in range(5)]
    await asyncio.sleep(0.5)
    before = asyncio.get_running_loop().time()
    assert await docker.driver.run(handle, ["true"], QUICK) == (0, b"")
    assert asyncio.get_running_loop().time() - before < 3
    await asyncio.gather(*hanging)


async def test_where_the_engine_does_not_see_our_mounts_the_refusal_says_so(docker: DockerBench) -> None:
    below = docker.private.folder / "unseen"
    below.touch(mode=0o111)
    with pytest.raises(DriverError, match="the engine does not see what the agent mounts") as failure:
        await docker.driver.start(launch(docker, SLEEP), Netns(str(below)))
    assert failure.value.retry
    below.unlink()


async def test_a_container_of_somebody_else_keeps_its_name(docker: DockerBench) -> None:
    engine = docker.private.engine
    wish = launch(docker, SLEEP)
    body = {"Image": IMAGE, "Cmd": ["true"]}
    engine.json("POST", "/containers/create", "create", params={"name": wish.id.name}, body=body)
    with pytest.raises(DriverError, match="that is not ours"):
        await docker.driver.start(wish, HostNetwork())
    engine.json("DELETE", f"/containers/{wish.id.name}", "remove")


async def test_an_image_that_was_removed_is_noticed_at_start_and_looked_for_again(docker: DockerBench) -> None:
    docker.private.import_image("shop:3")
    wish = launch(docker, SLEEP, container=ContainerSpec(image="shop:3"))
    async for _ in docker.driver.prepare(wish.spec):
        pass
    docker.private.remove_image("shop:3")
    with pytest.raises(DriverError, match="image shop:3 has gone from this node") as failure:
        await docker.driver.start(wish, HostNetwork())
    assert failure.value.retry
    with pytest.raises(DriverError, match="image shop:3 is not on this node"):
        async for _ in docker.driver.prepare(wish.spec):
            pass


async def test_pull_always_asks_a_registry_although_the_image_is_there(docker: DockerBench) -> None:
    wish = launch(docker, SLEEP, container=ContainerSpec(image=f"127.0.0.1:9/{IMAGE}", pull=PULL_ALWAYS))
    with pytest.raises(DriverError, match="no registry answered"):
        async for _ in docker.driver.prepare(wish.spec):
            pass


@pytest.mark.parametrize(
    ("container", "command", "words"),
    [
        (ContainerSpec(image=IMAGE, user="ghost"), ["true"], 'user "ghost" does not exist in image'),
        (ContainerSpec(image=IMAGE), ["/plain"], 'command "/plain" of image .* cannot be run: permission denied'),
        (ContainerSpec(image=IMAGE, capabilities_add=["FLY"]), ["true"], "(?i)FLY"),
        (ContainerSpec(image=IMAGE, workdir="relative"), ["true"], "(?i)working directory 'relative' is invalid"),
    ],
)
async def test_a_wish_that_cannot_be_fulfilled_is_refused_in_clear_words(
    docker: DockerBench, container: ContainerSpec, command: list[str], words: str
) -> None:
    with pytest.raises(DriverError, match=words) as failure:
        await started(docker, *command, container=container)
    assert not failure.value.retry


async def test_a_container_gets_what_its_spec_says(docker: DockerBench) -> None:
    container = ContainerSpec(
        image=IMAGE,
        user="www",
        workdir="/tmp",
        read_only_root=True,
        ulimits={"nofile": 512},
        sysctls={"net.core.somaxconn": "77"},
        shm_bytes=8 * MIB,
        hosts={"legacy": "192.0.2.7"},
    )
    handle = await started(docker, *SLEEP, container=container, env={"GREETING": "good day"})
    script = "id -u; echo $GREETING; hostname; ulimit -n; cat /proc/sys/net/core/somaxconn; echo $PWD; cat /etc/hosts"
    code, said = await docker.driver.run(handle, ["sh", "-c", script], QUICK)
    lines = said.decode().splitlines()
    assert lines[:6] == ["33", "good day", "web-2", "512", "77", "/tmp"], said
    assert "192.0.2.7\tlegacy" in said.decode()
    assert code == 0


async def test_ends_are_told_although_no_event_came(docker: DockerBench) -> None:
    """What the slow comparison is for."""
    driver = DockerDriver(
        str(docker.private.socket), "test", docker.node, netns_links=docker.private.links, resync_s=0.2
    )
    handle = await started(docker, *SLEEP)
    deaf = driver._ends
    deaf._take = lambda event: None  # type: ignore[method-assign]
    waiting = asyncio.ensure_future(driver.wait(handle))
    await asyncio.sleep(0.5)
    await docker.kill_behind_its_back(handle)
    assert (await asyncio.wait_for(waiting, QUICK)).code == 137
    await driver.close()


async def test_the_parent_cgroup_goes_when_the_last_task_has(docker: DockerBench) -> None:
    handle = await started(docker, *SLEEP)
    groups = Cgroups()
    assert not groups.remove(docker.parent("a1"))
    assert (await docker.driver.stats(handle)).pids >= 1  # runc's own may still be on their way out
    await docker.driver.destroy(handle)
    assert groups.remove(docker.parent("a1"))
    assert "a1" not in groups.names(docker.private.cgroup_root.strip("/"))


async def test_without_the_wrapper_a_pause_container_holds_the_namespace(docker: DockerBench) -> None:
    driver = DockerDriver(
        str(docker.private.socket), "test", docker.node, "not-registered", netns_links=docker.private.links
    )
    facts = await driver.fingerprint()
    assert "pause container" in facts.missing["docker.netns_runtime"]
    docker.driver = driver
    docker.netns = await provider_for(driver, facts, docker.private.namespaces, docker.private.helper, docker.parent)
    assert isinstance(docker.netns, PausedNetns)
    first = await started(docker, *SLEEP, alloc="p1")
    second = await started(docker, *SLEEP, alloc="p1", run=1)
    namespace = await docker.netns.ensure("p1")
    assert await _inode_inside(docker, first) == await _inode_inside(docker, second) == inode(Path(namespace.path))
    await driver.stop(first, "KILL", QUICK)
    third = await started(docker, *SLEEP, alloc="p1", run=2)
    assert await _inode_inside(docker, third) == inode(Path(namespace.path))
    assert len(await driver.recover()) == 3  # tasks alone, not what holds the namespace
    assert await docker.netns.names() == ["p1"]
    await _remove_pause(docker, "p1")
    with pytest.raises(DriverError, match="a container that it needs has gone") as failure:
        await driver.start(launch(docker, SLEEP, alloc="p1", run=3), namespace)
    assert failure.value.retry
    fourth = await started(docker, *SLEEP, alloc="p1", run=3)
    assert await _inode_inside(docker, fourth) == inode(Path((await docker.netns.ensure("p1")).path))


async def test_a_pause_container_goes_with_its_group_although_the_engine_knows_the_wrapper_by_now(
    docker: DockerBench,
) -> None:
    private, driver = docker.private, docker.new_driver()
    await PausedNetns(driver, private.namespaces, docker.parent).ensure("p1")
    chosen = await provider_for(driver, await driver.fingerprint(), private.namespaces, private.helper, docker.parent)
    assert isinstance(chosen, BoundNetns) and await chosen.names() == ["p1"]
    await chosen.remove("p1")
    assert await chosen.names() == [] == await PausedNetns(driver, private.namespaces, docker.parent).names()
    await driver.close()


async def test_a_pause_container_that_is_still_being_made_is_removed_all_the_same(docker: DockerBench) -> None:
    """As when a stop comes while an allocation is being prepared."""
    driver = docker.new_driver()
    paused = PausedNetns(driver, docker.private.namespaces, docker.parent)
    making = asyncio.ensure_future(paused.ensure("p1"))
    await asyncio.sleep(0.01)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    await paused.remove("p1")
    await asyncio.sleep(0.5)
    assert await paused.names() == []
    await driver.close()


async def test_the_wrapper_is_chosen_where_the_engine_knows_it(docker: DockerBench) -> None:
    driver = docker.new_driver()
    facts = await driver.fingerprint()
    chosen = await provider_for(driver, facts, docker.private.namespaces, docker.private.helper, docker.parent)
    assert registered(docker.private)
    assert isinstance(chosen, BoundNetns)
    await driver.close()


async def _inode_inside(docker: DockerBench, handle: Handle) -> int:
    observed = {found.handle: found for found in await docker.driver.recover()}
    return inode(Path(f"/proc/{observed[handle].pid}/ns/net"))


async def _remove_pause(docker: DockerBench, alloc: str) -> None:
    path = f"/containers/moor-{alloc}-pause"
    await asyncio.to_thread(docker.private.engine.json, "DELETE", path, "remove", params={"force": 1})


async def _created_and_never_run(docker: DockerBench, handle: Handle) -> str:
    """A container as an agent leaves it that dies between create and start: its id."""
    engine = docker.private.engine
    found = engine.json("GET", f"/containers/{handle.engine_id}/json", "inspect")
    await docker.driver.destroy(handle)
    body = {**found["Config"], "HostConfig": found["HostConfig"]}
    for mount in found["HostConfig"]["Mounts"]:
        await asyncio.to_thread(Path(mount["Source"]).touch)
    created = engine.json("POST", "/containers/create", "create", params={"name": handle.id.name}, body=body)
    with pytest.raises(Refused):
        engine.json("GET", f"/containers/{handle.engine_id}/json", "inspect")
    return str(created["Id"])
