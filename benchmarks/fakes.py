"""A controller and many agent processes on this machine, real but for driver and netlink."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.lab.cluster import Cluster


class FakeHosts:
    """`agents` processes of the agent with the fake driver; the controller is the lab's own, with its etcd."""

    def __init__(self, lab: str, agents: int, folder: Path, *, api_port: int) -> None:
        self._cluster = Cluster(lab, 0, api_port=api_port, on_this_machine=True)
        self._agents = agents
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def etcd(self) -> str:
        return self._cluster.controller.etcd_endpoint

    @property
    def controller_pid(self) -> int:
        return self._cluster.controller.pid()

    @property
    def etcd_pid(self) -> int:
        return self._cluster.controller.etcd_pid()

    @property
    def agent_pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def up(self) -> None:
        self._cluster.down()
        self._cluster.controller.start({"MOOR_LOG_LEVEL": "warning"})
        self._cluster.controller.wait_ready()
        for number in range(self._agents):
            self._start(f"fake{number}")

    def _start(self, name: str) -> None:
        home = self._folder / name
        home.mkdir()
        command = [
            sys.executable, "-m", "agent.main", "--driver", "fake",
            "--controllers", self._cluster.controller.agents_address,
            "--token-file", str(self._cluster.controller.token_file("agent")),
            "--node-name", name, "--data-dir", str(home / "data"), "--run-dir", str(home / "run"),
            "--cpu-millis", "64000", "--memory-bytes", str(256 << 30), "--log-level", "warning",
        ]  # fmt: skip
        with (home / "log").open("wb") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def down(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)
        self._cluster.down()

    async def wait_for_nodes(self, timeout_s: float = 180) -> None:
        """Until every agent's node is ready."""
        async with asyncio.timeout(timeout_s):
            async with self.client() as client:
                while True:
                    nodes = (await client.get("/v1/nodes", params={"limit": 500})).json()["items"]
                    if sum(node["phase"] == "ready" for node in nodes) >= self._agents:
                        return
                    await asyncio.sleep(0.5)

    async def apply(self, jobs: list[dict[str, Any]]) -> None:
        async with self.client() as client:
            gate = asyncio.Semaphore(8)

            async def put(job: dict[str, Any]) -> None:
                async with gate:
                    answer = await client.put(f"/v1/projects/default/jobs/{job['name']}", json=job)
                    answer.raise_for_status()

            await asyncio.gather(*(put(job) for job in jobs))

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._cluster.controller.token()}"}
        return httpx.AsyncClient(base_url=self._cluster.controller.api_url, headers=headers, timeout=60)


def sleepers(name: str, count: int) -> dict[str, Any]:
    """A job of containers that do nothing."""
    task = {
        "container": {"image": "busybox:1", "command": ["sleep", "3600"]},
        "resources": {"cpu": "10m", "memory": "16Mi"},
    }
    return {
        "kind": "Job",
        "name": name,
        "groups": {"web": {"count": count, "networks": "none", "tasks": {"main": task}}},
    }
