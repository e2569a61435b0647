"""The `moor` command against the real API over HTTP; leader and agents are scripted."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from controller.store.protocol import Delete
from moorage.cli.main import run
from moorage.wire import keys, store_pb2
from moorage.wire.session_pb2 import AttachFrame
from tests.unit.api.live import live, until
from tests.unit.api.world import World

YAML = """kind: Job
name: hello
groups:
  web:
    count: 1
    tasks:
      server:
        container: {image: "busybox:1"}
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Moor:
    """Runs the command in a thread with a loop of its own; as a process only where a signal matters."""

    def __init__(self, url: str, token: str, home: Path) -> None:
        path = os.environ.get("PATH", "")
        self._environ = {"MOOR_URL": url, "MOOR_TOKEN": token, "HOME": str(home), "PATH": path}

    async def __call__(self, *arguments: str) -> Result:
        return await asyncio.wait_for(asyncio.to_thread(self._run, arguments), 30)

    def _run(self, arguments: tuple[str, ...]) -> Result:
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(out), redirect_stderr(err):
            code = run(list(arguments), self._environ)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        return Result(code, *texts)

    async def process(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "moorage.cli", *arguments]
        return await asyncio.create_subprocess_exec(*command, env=self._environ, stdout=pipe, stderr=pipe)


@pytest.fixture(autouse=True)
def quiet_controller() -> Iterator[None]:
    """It shares the process, and so standard output, with the command."""
    with capture_logs():
        yield
    structlog.reset_defaults()  # capturing counts as configuring


@pytest.fixture
def hello(tmp_path: Path) -> str:
    path = tmp_path / "hello.yaml"
    path.write_text(YAML)
    return str(path)


async def settle(w: World) -> None:
    group = store_pb2.GroupState(group="web", wanted=1, placed=1, running=1, healthy=1, updated=1)
    await w.job_state("hello", store_pb2.JobState(groups=[group], settled_version=1))


async def test_a_job_from_its_file_until_it_runs_and_is_gone(hello: str, tmp_path: Path) -> None:
    async with live() as (w, client):
        moor = Moor(client._http.url, w.admin, tmp_path)
        await w.node("n-1", "h1")
        assert (await moor("diff", "-f", hello)).code == 1

        applying = asyncio.create_task(moor("apply", "-f", hello))
        await until(lambda: w.cache.job("default", "hello") is not None, 20)
        alloc = await w.allocation("hello", "web", 0, "n-1", ports={"http": 20001}, why="best fit of 1 node")
        await w.status(alloc, store_pb2.RUNNING, health=store_pb2.HEALTHY)
        await settle(w)
        applied = await applying
        assert (applied.code, applied.err) == (0, "")
        assert "job hello runs: web 1/1 healthy" in applied.out

        assert (await moor("diff", "-f", hello)).out.startswith("job hello stays as it is")
        listed = await moor("get", "jobs", "-o", "json")
        assert json.loads(listed.out) == (await w.http.get("/v1/projects/default/jobs")).json()
        assert "http=20001" in (await moor("get", "allocations", "--job", "hello")).out
        assert "best fit of 1 node" in (await moor("describe", "alloc", "hello/web/0")).out
        assert (await moor("describe", "job", "hello")).code == 0
        assert (await moor("describe", "node", "h1")).code == 0
        assert (await moor("wait", "node/h1", "--for", "ready")).code == 0
        assert (await moor("explain", "hello")).code == 0

        w.sessions.frames = [AttachFrame(channel=1, data=b"hello, world\n"), AttachFrame(end=True)]
        assert (await moor("logs", "hello", "--task", "server")).out == "hello/web/0 | hello, world\n"
        assert (await moor("scale", "hello=3", "--detach")).code == 0
        assert (await client.get_job("hello")).spec["groups"]["web"]["count"] == 3

        deleting = asyncio.create_task(moor("delete", "job", "hello"))
        await until(lambda: (entry := w.cache.job("default", "hello")) is not None and entry.deleting, 20)
        await w.store.commit([], [Delete(keys.job("default", "hello"))])
        assert (await deleting).code == 0


async def test_ctrl_c_leaves_the_rollout_to_the_server_and_says_so(hello: str, tmp_path: Path) -> None:
    async with live() as (w, client):
        moor = Moor(client._http.url, w.admin, tmp_path)
        applying = await moor.process("apply", "-f", hello)
        assert applying.stdout is not None
        await applying.stdout.readline()
        await applying.stdout.readline()  # it follows now

        applying.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(applying.communicate(), 30)

        assert (applying.returncode, b"the rollout goes on on the server" in err) == (130, True)
        assert b"Traceback" not in err
        assert w.cache.job("default", "hello") is not None


async def test_without_a_valid_token_nothing_is_told(hello: str, tmp_path: Path) -> None:
    async with live() as (w, client):
        for token in ("", "moor_x_y", w.agent):
            refused = await Moor(client._http.url, token, tmp_path)("apply", "-f", hello)
            assert (refused.code, refused.out) == (6, "")
            assert refused.err.startswith("moor: ")
