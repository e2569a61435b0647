"""Controllers and agents as processes of their own around a real etcd; only the engine is a fake.

What runs is asked from the engines' records, and compared with what jobs want, slot by slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from moorage.client import ApiProblem, Client, Unreachable
from moorage.model.view import AllocationView
from tests.contract.etcds import EtcdProcess, free_port
from tests.integration.agent_world import ROOT, AgentProcess, until

T = TypeVar("T")

QUICK = {
    "MOOR_HEARTBEAT": "0.3",
    "MOOR_LOST_AFTER": "3",
    "MOOR_LEASE": "2",
    "MOOR_RENEW": "0.5",
    "MOOR_LOG_LEVEL": "info",
}


class ControllerProcess:
    """`etcd` "": it brings its own."""

    def __init__(self, folder: Path, etcd: str = "", **environment: str) -> None:
        self.folder = folder
        self._etcd = etcd
        self._environment = environment
        self._api, self._agents, self._etcd_port = free_port(), free_port(), free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._api}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._agents}"

    @property
    def etcd(self) -> str:
        return self._etcd or f"http://127.0.0.1:{self._etcd_port}"

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        where = ["--etcd", self._etcd] if self._etcd else ["--etcd-port", str(self._etcd_port)]
        command = [
            *(sys.executable, "-m", "controller.main", "--data-dir", str(self.folder / "data")),
            *("--api", f"127.0.0.1:{self._api}", "--agents", self.address, "--log-format", "json", *where),
        ]
        environment = {**os.environ, **QUICK, **self._environment, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, stdout=log, stderr=log, env=environment
            )

    async def ready(self, seconds: float = 30) -> None:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(f"{self.url}/readyz")).is_success and self._token_file("agent").exists():
                        return
                await asyncio.sleep(0.05)

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()

    async def end(self) -> None:
        """In order, its own etcd too, whatever a kill has left of it."""
        if self._process is not None and self._process.returncode is None:
            await self.kill(signal.SIGTERM)
        end_etcd(self.folder / "data" / "etcd")

    def client(self) -> Client:
        return Client(self.url, self.token("admin"))

    def token(self, role: str) -> str:
        return self._token_file(role).read_text().strip()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _token_file(self, role: str) -> Path:
        return self.folder / "data" / f"{role}.token"


def end_etcd(data: Path) -> None:
    """One that a killed controller has left."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if f"--data-dir={data}" in (entry / "cmdline").read_text().split("\0"):
                os.kill(int(entry.name), signal.SIGKILL)


class Several:
    """What an agent is told of several controllers."""

    def __init__(self, controllers: Sequence[ControllerProcess]) -> None:
        self.address = ",".join(controller.address for controller in controllers)


class Cluster:
    """Several controllers on one etcd, and agents that know them all."""

    def __init__(self, folder: Path, controllers: int, agents: int, **environment: str) -> None:
        folder.joinpath("etcd").mkdir(parents=True)
        self.etcd = EtcdProcess("etcd34", folder / "etcd")
        self.folder = folder
        self.controllers = [
            ControllerProcess(folder / f"c{n}", self.etcd.endpoint, **environment) for n in range(controllers)
        ]
        self.agents: list[AgentProcess] = []
        self._wanted_agents = agents

    async def start(self) -> None:
        await asyncio.to_thread(self.etcd.start)
        for controller in self.controllers:
            await controller.start()
        for controller in self.controllers:
            await controller.ready()
        for number in range(self._wanted_agents):
            self.agents.append(
                agent(self.folder, Several(self.controllers), number, self.controllers[0].token("agent"))
            )
            await self.agents[-1].start()
        async with self.controllers[0].client() as client:
            await eventually(lambda: ready(client, self._wanted_agents), "all nodes are ready", 60)

    async def end(self) -> None:
        for one in self.agents:
            await one.kill()
        for controller in self.controllers:
            await controller.end()
        await asyncio.to_thread(self.etcd.kill)

    def places(self) -> Counter[tuple[str, ...]]:
        """How many tasks run in each place, of all nodes."""
        return Counter(place for one in self.agents for place in one.witness.places().values())

    def starts(self) -> list[str]:
        return [name for one in self.agents for name in one.witness.starts]

    def doubles(self) -> list[str]:
        return [double for one in self.agents for double in one.witness.doubles]

    async def runs(self, client: Client, wanted: dict[str, int], seconds: float = 40) -> list[AllocationView]:
        """Waits until exactly so many of each job run, in the engines, and nothing else does; returns them."""
        slots = await self._slots(client, wanted)
        try:
            await until(lambda: self.places() == slots, "the engines run exactly what is wanted", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nwanted {sorted(slots)}\nrunning {sorted(self.places().items())}") from None
        names = {name for one in self.agents for name in one.witness.running()}
        allocations = await client.list_allocations()
        return [one for one in allocations if any(name.startswith(f"moor-{one.id}-") for name in names)]

    async def _slots(self, client: Client, wanted: dict[str, int]) -> Counter[tuple[str, ...]]:
        slots: Counter[tuple[str, ...]] = Counter()
        for job, count in wanted.items():
            uid = (await client.get_job(job)).uid
            slots.update((uid, "web", str(index), "server") for index in range(count))
        return slots


def agent(
    folder: Path, controllers: ControllerProcess | Several, number: int, token: str, *arguments: str
) -> AgentProcess:
    """Of a large host."""
    size = ("--cpu-millis", "64000", "--memory-bytes", str(256 << 30), *arguments)
    return AgentProcess(folder / f"n{number}", controllers, name=f"n{number}", token=token, arguments=size)


@contextlib.asynccontextmanager
async def cluster(folder: Path, controllers: int = 1, agents: int = 2, **environment: str) -> AsyncIterator[Cluster]:
    made = Cluster(folder, controllers, agents, **environment)
    try:
        await made.start()
        yield made
    finally:
        await made.end()


def service(
    count: int, image: str = "busybox:1", command: Sequence[str] = ("sleep", "100000"), **more: Any
) -> dict[str, Any]:
    task = {"container": {"image": image, "command": list(command)}, "resources": {"cpu": "10m", "memory": "8Mi"}}
    group = {"count": count, "networks": "none", "tasks": {"server": task}, "reschedule": {"delay": "100ms"}}
    return {"update": {"min_healthy": "50ms", "max_parallel": 2}, "groups": {"web": group}, **more}


async def ready(client: Client, nodes: int) -> bool:
    return [node.phase for node in await client.list_nodes()] == ["ready"] * nodes


async def eventually(condition: Callable[[], Awaitable[object]], what: str, seconds: float = 20) -> None:
    """AssertionError names what did not come."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 (the condition is about other processes)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


async def insist(change: Callable[[], Awaitable[T]], seconds: float = 30) -> T:
    """A change that may be sent again, until it is answered: controllers come and go meanwhile."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await change()
            except Unreachable:
                pass
            except ApiProblem as problem:
                if problem.problem.status not in (503, 409):
                    raise
            await asyncio.sleep(0.05)


async def gone_or_asked(request: Awaitable[object]) -> None:
    try:
        await request
    except ApiProblem as problem:
        if problem.code != "not_found":
            raise
