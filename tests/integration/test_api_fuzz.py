"""The API against a fuzzer that knows its description: no failure, and no answer that the description does not tell.

schemathesis runs beside the real app on a real server, with a few jobs, nodes and allocations in it: boundary cases of
each parameter, random bodies, and chains of requests (put, scale, delete, read …), always the same ones. Watches are
left out of the description that it gets, since they never end.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from pathlib import Path
from typing import Any

from controller.api import paging
from controller.api.observe import REQUESTS
from moorage.wire import keys, store_pb2
from tests.unit.api.live import served
from tests.unit.api.world import World, hello, world

SECONDS = 60
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


async def test_every_answer_is_one_that_the_description_tells(tmp_path: Path) -> None:
    async with world() as w, served(w.app) as url:
        alloc = await populate(w)
        REQUESTS.clear()
        document = (await w.http.get("/v1/openapi.json")).json()
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(aimed(document, alloc)))
        code, output = await schemathesis(path, url, w.admin, tmp_path)
        assert code == 0, output
        assert operations(document) - succeeded() == set(), output


async def schemathesis(document: Path, url: str, token: str, cwd: Path) -> tuple[int | None, str]:
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url, "--no-color"]
    command += ["-H", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS), "--generation-deterministic"]
    command += [
        "--max-examples",
        "30",
        "--max-time",
        str(SECONDS),
        "--request-timeout",
        "10",
        "--suppress-health-check",
        "all",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")


async def populate(w: World) -> str:
    """What the requests find."""
    await w.node("n1", "h1", disk="ssd")
    await w.node("n2", "h2", phase=store_pb2.NodeState.LOST)
    for name in ("hello", "shop"):
        await w.http.put(f"/v1/projects/default/jobs/{name}", json=hello(labels={"team": "web"}))
    alloc = await w.allocation("hello", "web", 0, "n1", ports={"http": 20_000})
    task = store_pb2.TaskStatus(name="server", state="running", started_ms=1)
    await w.status(alloc, store_pb2.RUNNING, health=store_pb2.HEALTHY, tasks=[task])
    group = store_pb2.GroupState(group="web", wanted=2, placed=1, running=1)
    group.waiting.add(index=1, reason="no room")
    await w.job_state("hello", store_pb2.JobState(groups=[group]))
    await w.put(keys.event("1-x"), store_pb2.Event(at_ms=1, kind="placed", project="default", object="job/hello"))
    return alloc


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}


def succeeded() -> set[tuple[str, str]]:
    """Operations that were done at least once: a fuzzer that is refused everywhere shows nothing."""
    samples = [sample for family in REQUESTS.collect() for sample in family.samples]
    return {(s.labels["route"], s.labels["method"]) for s in samples if s.labels["status"].startswith("2")}


def aimed(document: dict[str, Any], alloc: str) -> dict[str, Any]:
    """The description without watches, and with values that fit beside all that might: random ones only meet 404."""
    fitting: dict[str, list[Any]] = {
        "project": ["default"],
        "name": ["hello", "shop"],
        "id": [alloc],
        "node": ["h1", "h2"],
        "version": [1],
        "next": [paging.encode(("a",))],
        "labels": ["team=web", "!other"],
        "if-match": ["*"],
        "if-none-match": ['"1"'],
    }
    found = copy.deepcopy(document)
    del found["components"]["schemas"]["JobSpec"]["properties"][
        "name"
    ]  # must be that of the path, which chance never hits
    for methods in found["paths"].values():
        for operation in methods.values():
            parameters = [p for p in operation.get("parameters", []) if p["name"] != "watch"]
            for parameter in parameters:
                if (values := fitting.get(parameter["name"])) is not None:
                    parameter["schema"] = {"anyOf": [{"enum": values}, parameter["schema"]]}
            operation["parameters"] = parameters
    return found
