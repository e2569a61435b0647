"""A user of the cluster: asks the API with a token, and believes only the engines."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any

import httpx

from tests.lab.cluster import Cluster
from tests.lab.processes import wait_for

Json = dict[str, Any]


class User:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def call(self, method: str, path: str, body: Json | None = None, *, patience_s: float = 30) -> httpx.Response:
        """One request; while the API is away or without its store it is asked again."""
        until = time.monotonic() + patience_s
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self._ask(method, path, body)
                if answer.status_code < 500:
                    return answer
            if time.monotonic() > until:
                raise TimeoutError(f"{method} {path}: no answer within {patience_s} s")
            time.sleep(0.2)

    def _ask(self, method: str, path: str, body: Json | None) -> httpx.Response:
        """On a connection of its own, which costs nothing; an httpx client would first read all TLS certificates."""
        url = self._cluster.controller.api_url
        headers = {"Authorization": f"Bearer {self._cluster.controller.token()}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            request = httpx.Request(method, url + path)
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read(), request=request)
        finally:
            connection.close()

    def get(self, path: str) -> Json:
        answer = self.call("GET", path)
        answer.raise_for_status()
        body: Json = answer.json()
        return body

    # -- jobs ----------------------------------------------------------------------------------------------------

    def apply(self, job: Json) -> Json:
        answer = self.call("PUT", f"/v1/projects/default/jobs/{job['name']}", job)
        if answer.status_code not in (200, 201):
            raise AssertionError(f"refused: {answer.status_code} {answer.text}")
        body: Json = answer.json()
        return body

    def job(self, name: str) -> Json:
        return self.get(f"/v1/projects/default/jobs/{name}")

    def delete(self, name: str) -> None:
        self.call("DELETE", f"/v1/projects/default/jobs/{name}")

    def job_names(self) -> list[str]:
        return [job["name"] for job in self.get("/v1/projects/default/jobs")["items"]]

    def delete_all_jobs(self) -> None:
        for name in self.job_names():
            self.delete(name)
        wait_for(lambda: not self.job_names(), 60, "all jobs to be gone")

    def allocations(self, job: str) -> list[Json]:
        items: list[Json] = self.get(f"/v1/projects/default/allocations?job={job}")["items"]
        return items

    # -- nodes ---------------------------------------------------------------------------------------------------

    def nodes(self) -> dict[str, Json]:
        return {node["name"]: node for node in self.get("/v1/nodes")["items"]}

    def patch_node(self, name: str, **change: Any) -> None:
        self.call("PATCH", f"/v1/nodes/{name}", change).raise_for_status()

    def wait_for_nodes(self, count: int, timeout_s: float = 60) -> None:
        """Ready, and their engine has been heard of."""

        def ready() -> bool:
            nodes = self.nodes().values()
            return sum(1 for node in nodes if node["phase"] == "ready" and "docker" in node["drivers"]) == count

        wait_for(ready, timeout_s, f"{count} nodes to be ready", pause_s=0.2)


def service(
    name: str,
    count: int,
    *,
    command: str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done",
    image: str = "busybox:1",
    tasks: tuple[str, ...] = ("server",),
    **group: Any,
) -> Json:
    """A job of one group `web`; further keywords are fields of the group."""
    task = {
        "container": {"image": image, "command": ["sh", "-c", command]},
        "resources": {"cpu": "50m", "memory": "16Mi"},
        "stop": {"timeout": "2s"},
    }
    defaults: Json = {
        "disconnect": {"replace_after": "2s"},
        "reschedule": {"delay": "500ms", "max_delay": "5s"},
        "restart": {"delay": "200ms", "max_delay": "2s", "attempts": 3, "interval": "1m"},
    }
    body = {**defaults, **group, "count": count, "tasks": dict.fromkeys(tasks, task)}
    return {"kind": "Job", "name": name, "update": {"min_healthy": "500ms"}, "groups": {"web": body}}
