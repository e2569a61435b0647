"""One controller with five hundred agents and 25,000 allocations: at rest, at a loss, and after its own death.

Real etcd, a real controller process, real gRPC sessions of real agents (many in a process; only driver and kernel are
replaced). In turn: one per cent of the allocations is replaced within a minute; fifty agents are lost at once; the
controller is killed and started again. A reader asks the API all the while.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fakes import sleepers
from benchmarks.measure import as_installed, cpu_s, rss_mib
from benchmarks.table import Figure, parser, report
from tests.lab.cluster import Cluster
from tests.lab.processes import wait_for

REPLACE_AFTER_S = 5.0
JOBS = 50


def main(arguments: list[str]) -> int:
    options = parser("fleet", __doc__.partition("\n")[0])
    options.add_argument("--agents", type=int, default=500)
    options.add_argument("--allocations", type=int, default=25_000)
    options.add_argument("--lost", type=int, default=50)
    options.add_argument("--minute", type=float, default=60.0, help="seconds of churn")
    given = options.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="moor-fleet-"))
    as_installed(folder)
    fleet = Fleet(given.agents, given.allocations, given.lost, folder)
    try:
        figures, notes = fleet.measure(given.minute)
    finally:
        fleet.end()
        shutil.rmtree(folder, ignore_errors=True)
    report(f"fleet: {given.agents} agents, {given.allocations} allocations", figures, notes, given.json)
    return 0


class Lines:
    """A child process, and the lines that it has printed."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Fleet:
    def __init__(self, agents: int, allocations: int, lost: int, folder: Path) -> None:
        self._cluster = Cluster("fleet", 0, api_port=7870, on_this_machine=True)
        self._agents = agents
        self._allocations = allocations
        self._lost = lost
        self._folder = folder
        self._holders: list[Lines] = []
        self._reader: Lines | None = None

    def measure(self, minute_s: float) -> tuple[list[Figure], dict[str, str]]:
        controller = self._cluster.controller
        self._cluster.down()
        controller.start({"MOOR_LOG_LEVEL": "warning"})
        controller.wait_ready()
        self._say("controller")
        self._hold_agents()
        self._say(f"{self._agents} agents")
        filled = self._fill()
        self._say(f"{self._allocations} allocations run after {filled:.1f} s")
        time.sleep(10)
        still = self._cores(minute_s / 4)
        idle = self._churn(minute_s)
        self._say(f"at rest {still:.3f} cores, with churn {idle:.3f}")
        self._reader = Lines("benchmarks.fleet_reader", controller.api_url, controller.token())
        self._churn(minute_s / 4)
        rss = rss_mib(controller.pid())
        replace_s = self._lose_agents()
        self._say(f"{self._lost} agents lost: replaced after {replace_s:.1f} s")
        resync_s, away_s = self._kill_controller()
        self._say(f"controller killed: in step again after {resync_s:.1f} s")
        time.sleep(5)
        latencies = self._latencies()
        figures = [
            Figure("controller_rss_mib", max(rss, rss_mib(controller.pid()))),
            Figure("cpu_cores_idle", idle, "<= 0.15"),
            Figure("resync_s", resync_s, "<= 6"),
            Figure("replace_s", replace_s),
            Figure("api_p99_ms", statistics.quantiles(latencies, n=100)[98], "<= 100"),
        ]
        notes = {
            "idle": f"with 1 % churn a minute; {still:.3f} without",
            "resync": f"from the kill, its start included; the API was away for {away_s:.1f} s of it",
            "replace": f"{self._lost} nodes; from the last one called lost, less replace_after ({REPLACE_AFTER_S:g} s)",
            "reads": f"{len(latencies)} during churn, loss and restart; median {statistics.median(latencies):.1f} ms",
            "fill": f"{self._allocations / filled:.0f} allocations a second at the beginning",
        }
        return figures, notes

    def end(self) -> None:
        for child in (*self._holders, *([self._reader] if self._reader else [])):
            child.kill()
        self._cluster.down()

    def _say(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def _hold_agents(self) -> None:
        """As many in a process as are to be lost at once."""
        controller = self._cluster.controller
        for first in range(0, self._agents, self._lost):
            command = [controller.agents_address, str(controller.token_file("agent")), str(self._folder)]
            count = min(self._lost, self._agents - first)
            self._holders.append(Lines("benchmarks.fleet_agents", *command, str(first), str(count)))
        wait_for(lambda: self._phases().count("ready") == self._agents, 300, "all agents to join", pause_s=1)

    def _fill(self) -> float:
        started = time.monotonic()
        with self._client() as client:
            for number in range(JOBS):
                job = sleepers(f"fleet{number}", self._allocations // JOBS)
                job["groups"]["web"]["disconnect"] = {"replace_after": f"{int(REPLACE_AFTER_S)}s"}
                client.put(f"/v1/projects/default/jobs/{job['name']}", json=job).raise_for_status()
        wait_for(lambda: self._running() == self._allocations, 300, "all allocations to run", pause_s=0.5)
        return time.monotonic() - started

    def _churn(self, minute_s: float) -> float:
        """Stop one allocation after the other, one per cent of all in a minute. Returns the controller's cores."""
        rate = self._allocations * 0.01 / 60
        pid = self._cluster.controller.pid()
        targets = self._some_allocations(int(rate * minute_s) + 1)
        before, started = cpu_s([pid]), time.monotonic()
        with self._client() as client:
            for number, alloc in enumerate(targets):
                client.post(f"/v1/projects/default/allocations/{alloc}/stop").raise_for_status()
                time.sleep(max(0.0, started + (number + 1) / rate - time.monotonic()))
        return (cpu_s([pid]) - before) / (time.monotonic() - started)

    def _cores(self, seconds: float) -> float:
        pid = self._cluster.controller.pid()
        before = cpu_s([pid])
        time.sleep(seconds)
        return (cpu_s([pid]) - before) / seconds

    def _lose_agents(self) -> float:
        self._holders.pop().kill()
        wait_for(lambda: self._phases().count("lost") >= self._lost, 60, "the agents to be called lost", pause_s=0.2)
        lost = time.monotonic()
        time.sleep(REPLACE_AFTER_S / 2)
        # What a lost node ran is not counted as running.
        wait_for(lambda: self._running() == self._allocations, 120, "all to be replaced", pause_s=0.3)
        return time.monotonic() - lost - REPLACE_AFTER_S

    def _kill_controller(self) -> tuple[float, float]:
        """Seconds until every living agent has its complete set again, and until the API answers again."""
        before = [self._sets(holder) for holder in self._holders]
        started = time.monotonic()
        self._cluster.controller.kill()
        self._cluster.controller.start({"MOOR_LOG_LEVEL": "warning"})
        self._cluster.controller.wait_ready()
        away = time.monotonic() - started
        wanted = [count + self._lost for count in before]
        wait_for(
            lambda: all(self._sets(h) >= w for h, w in zip(self._holders, wanted, strict=True)),
            120,
            "all agents to have their sets",
        )
        return time.monotonic() - started, away

    def _sets(self, holder: Lines) -> int:
        return int(holder.lines[-1]) if holder.lines else 0

    def _latencies(self) -> list[float]:
        assert self._reader is not None
        rows = [line.split() for line in list(self._reader.lines)]
        return [float(ms) for _, ms, answered in rows if answered == "1"]

    def _phases(self) -> list[str]:
        with self._client() as client:
            return [node["phase"] for node in client.get("/v1/nodes", params={"limit": 500}).json()["items"]]

    def _running(self) -> int:
        with self._client() as client:
            jobs = client.get("/v1/projects/default/jobs", params={"limit": 500}).json()["items"]
        return sum(group["running"] for job in jobs for group in job["status"]["groups"])

    def _some_allocations(self, count: int) -> list[str]:
        """From all jobs alike."""
        found: list[str] = []
        with self._client() as client:
            for number in range(JOBS):
                query: dict[str, Any] = {"job": f"fleet{number}", "limit": count // JOBS + 1}
                items = client.get("/v1/projects/default/allocations", params=query).json()["items"]
                found += [item["id"] for item in items]
        return found[:count]

    def _client(self) -> httpx.Client:
        controller = self._cluster.controller
        headers = {"Authorization": f"Bearer {controller.token()}"}
        return httpx.Client(base_url=controller.api_url, headers=headers, timeout=60)
