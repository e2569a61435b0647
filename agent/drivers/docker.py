"""The Docker driver: tasks are containers of one engine.

A start is exactly two calls (create, start) and one link that tells the OCI runtime which namespace to join; what is
known of images saves a third. How a container ended is learnt from one stream of events (docker_events), never by
asking. A container belongs to one run of a task and is never started twice, so an end is final, and a start that was
interrupted anywhere is finished by starting again: the name says what it is, its labels whose.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agent.cgroup import Cgroups, container_directory
from agent.drivers import docker_facts, labels
from agent.drivers.docker_engine import Engine, Refused
from agent.drivers.docker_errors import is_missing_image, start_error
from agent.drivers.docker_events import Ends, exit_of, unix_ms
from agent.drivers.docker_images import Images
from agent.drivers.docker_logs import chunks, open_logs, run_command
from agent.drivers.docker_spec import Body, Owner, create_body, hosts_text, wants_hosts_file
from agent.drivers.protocol import (
    Attachment,
    DriverError,
    DriverFacts,
    Exit,
    Handle,
    Launch,
    LogChunk,
    Netns,
    Observed,
    Progress,
    TaskId,
    TaskUsage,
)
from agent.drivers.pump import pumped
from moorage.kit import tasks
from moorage.kit.clock import Clock, SystemClock
from moorage.wire.spec_pb2 import TaskSpec

DEFAULT_SOCKET = "/var/run/docker.sock"
DEFAULT_RUNTIME = "moorage"
_LEFTOVER_S = 60.0
_NAME_TRIES = 5
_NAME_PAUSE_S = 0.1
NEVER_RAN = Exit(-1, message="it was made and never started")


class DockerDriver:
    """`netns_links`: where the OCI runtime looks for the namespace of a container; this driver's alone.

    Beside it, in DIR.hosts, are the tasks' /etc/hosts.
    """

    name = "docker"

    def __init__(
        self,
        socket: str,
        cluster: str,
        node: str,
        runtime: str = DEFAULT_RUNTIME,
        *,
        netns_links: Path,
        cgroups: Cgroups | None = None,
        clock: Clock | None = None,
        resync_s: float = 60.0,
    ) -> None:
        self.engine = Engine(socket)
        self.owner = Owner(cluster, node, runtime)
        self._links = netns_links
        self._hosts = netns_links.with_name(f"{netns_links.name}.hosts")
        self._cgroups = cgroups or Cgroups()
        self._tasks = tasks.Owner("docker")
        self.images = Images(self.engine, self._tasks)
        self.on_connect: list[Callable[[], None]] = [self.images.forget_all]  # it may be another engine by now
        clock = clock or SystemClock()
        self._ends = Ends(self.engine, cluster, node, clock, self._tasks, resync_s=resync_s, on_connect=self._connected)
        self._following: asyncio.Task[None] | None = None
        self._parents: dict[str, str] = {}

    async def fingerprint(self) -> DriverFacts:
        return await self.engine.run(docker_facts.read, self.engine, self.owner.runtime)

    async def prepare(self, spec: TaskSpec) -> AsyncGenerator[Progress, None]:
        async with aclosing(self.images.ensure(spec.container)) as progress:
            async for step in progress:
                yield step

    async def start(self, launch: Launch, attachment: Attachment) -> Handle:
        self._follow()
        try:
            engine_id = await self.engine.run(self._start, launch, attachment)
        except Refused as refused:
            if is_missing_image(refused):
                self.images.forget(launch.spec.container.image)
            raise start_error(launch.spec.container.image, refused) from refused
        self._ends.claim(engine_id)
        self._parents[engine_id] = launch.cgroup_parent
        return Handle(launch.id, self.name, engine_id)

    async def recover(self) -> list[Observed]:
        self._follow()
        entries = await self.engine.run(self._list)
        found = await asyncio.gather(*(self.engine.run(self._inspect, str(entry["Id"])) for entry in entries))
        await self.engine.run(self._tidy, entries)
        return [self._recovered(inspected) for inspected in found if inspected is not None]

    async def wait(self, handle: Handle) -> Exit:
        self._follow()
        return await self._ends.wait(handle.engine_id)

    async def signal(self, handle: Handle, signal: str) -> None:
        await self.engine.run(self._kill, handle.engine_id, signal)

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> Exit:
        self._follow()
        end = asyncio.ensure_future(self._ends.wait(handle.engine_id))
        try:
            return await self._stop(handle.engine_id, signal, timeout_s, end)
        finally:
            end.cancel()

    async def destroy(self, handle: Handle) -> None:
        self._ends.claim(handle.engine_id).killed = True
        await self.engine.run(self._remove, handle.engine_id)
        self._hosts_path(handle.id).unlink(missing_ok=True)
        self._ends.forget(handle.engine_id)
        self._parents.pop(handle.engine_id, None)

    async def stats(self, handle: Handle) -> TaskUsage:
        parent = self._parents.get(handle.engine_id)
        if parent is None:
            raise DriverError(f"{handle.id.name} is not known to this driver")
        used = self._cgroups.usage(container_directory(parent, handle.engine_id))
        return TaskUsage(used.cpu_usage_us, used.memory_bytes, used.pids)

    async def run(self, handle: Handle, command: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        return await self.engine.run_slow(run_command, self.engine, handle.engine_id, command, timeout_s)

    async def logs(
        self, handle: Handle, *, follow: bool, tail: int, since_ms: int, timestamps: bool
    ) -> AsyncGenerator[LogChunk, None]:
        stream = await self.engine.open(
            open_logs, self.engine, handle.engine_id, follow=follow, tail=tail, since_ms=since_ms, timestamps=timestamps
        )
        async with aclosing(pumped(lambda: chunks(stream), stream.close, name="docker-logs")) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        await self._tasks.close()
        self.engine.close()

    def _connected(self) -> None:
        for call in self.on_connect:
            call()

    def _follow(self) -> None:
        if self._following is None:
            self._following = self._tasks.start(self._ends.run(), "events")

    async def _stop(self, engine_id: str, signal: str, timeout_s: float, end: asyncio.Future[Exit]) -> Exit:
        if not await self.engine.run(self._kill, engine_id, signal) and await self._ends.never_ran(engine_id):
            return NEVER_RAN
        done, _ = await asyncio.wait([end], timeout=timeout_s)
        if not done:
            self._ends.claim(engine_id).killed = True
            await self.engine.run(self._kill, engine_id, "KILL")
        return await end

    def _recovered(self, inspected: dict[str, Any]) -> Observed:
        marks, state = inspected["Config"]["Labels"], inspected["State"]
        handle = Handle(
            TaskId(marks[labels.ALLOC], marks[labels.TASK], int(marks[labels.RUN])), self.name, str(inspected["Id"])
        )
        self._parents[handle.engine_id] = marks.get(labels.CGROUP, "")
        self._ends.claim(handle.engine_id)
        end = exit_of(state)
        if end is not None:
            self._ends.ended(handle.engine_id, end)
        return Observed(handle, bool(state["Running"]), end, marks, int(state["Pid"]), unix_ms(str(state["StartedAt"])))

    # What follows blocks, and runs on the engine's threads.

    def _start(self, launch: Launch, attachment: Attachment) -> str:
        body = create_body(launch, attachment, self.owner, self._hosts_file(launch, attachment))
        engine_id, fresh = self._create(launch.id.name, body)
        if not fresh:
            return engine_id
        if isinstance(attachment, Netns) and not attachment.holder:
            self._link(engine_id, attachment.path)
        try:
            self.engine.json("POST", f"/containers/{engine_id}/start", "start")
        except Refused:
            self._remove(engine_id)
            self._hosts_path(launch.id).unlink(missing_ok=True)
            raise
        return engine_id

    def _hosts_file(self, launch: Launch, attachment: Attachment) -> str:
        if not wants_hosts_file(launch, attachment):
            return ""
        path = self._hosts_path(launch.id)
        try:
            path.write_text(hosts_text(launch))
        except FileNotFoundError:
            self._hosts.mkdir(parents=True, exist_ok=True)
            path.write_text(hosts_text(launch))
        return str(path)

    def _hosts_path(self, task: TaskId) -> Path:
        return self._hosts / task.name

    def _create(self, name: str, body: Body) -> tuple[str, bool]:
        """Its id, and whether it has still to be started."""
        for _ in range(_NAME_TRIES):
            try:
                created = self.engine.json("POST", "/containers/create", "create", params={"name": name}, body=body)
                return str(created["Id"]), True
            except Refused as refused:
                if refused.status != 409:
                    raise
            if (found := self._inspect(name)) is None:  # going, with its name still taken
                time.sleep(_NAME_PAUSE_S)
            elif (adopted := self._adopt(name, found, body)) is not None:
                return adopted
        raise DriverError(f"a container named {name} is still being removed by the engine")

    def _adopt(self, name: str, found: dict[str, Any], body: Body) -> tuple[str, bool] | None:
        """A container has that name already: an earlier start got this far. None: it was no use, and is removed."""
        engine_id, marks = str(found["Id"]), found["Config"]["Labels"] or {}
        if marks.get(labels.NODE) != self.owner.node or marks.get(labels.CLUSTER) != self.owner.cluster:
            raise DriverError(f"a container named {name} exists that is not ours; remove it", retry=False)
        if found["State"]["Status"] != "created":
            return engine_id, False
        if marks.get(labels.LAUNCH) == body["Labels"][labels.LAUNCH]:
            return engine_id, True
        self._remove(engine_id)
        return None

    def _link(self, engine_id: str, namespace: str) -> None:
        link = self._links / engine_id
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(namespace)
        except FileNotFoundError:
            self._links.mkdir(parents=True, exist_ok=True)
            link.symlink_to(namespace)

    def _tidy(self, entries: Sequence[dict[str, Any]]) -> None:
        """Links and files of containers that somebody else removed; young ones may belong to a start under way."""
        living = {str(entry["Id"]) for entry in entries} | {entry["Names"][0].strip("/") for entry in entries}
        for directory in (self._links, self._hosts):
            for path in directory.iterdir() if directory.is_dir() else ():
                if path.name not in living and _age_s(path) > _LEFTOVER_S:
                    path.unlink(missing_ok=True)

    def _list(self) -> list[dict[str, Any]]:
        marks = [f"{labels.CLUSTER}={self.owner.cluster}", f"{labels.NODE}={self.owner.node}", labels.TASK]
        params = {"all": 1, "filters": json.dumps({"label": marks})}
        return [
            found for found in self.engine.json("GET", "/containers/json", "list", params=params) if _is_ours(found)
        ]

    def _inspect(self, engine_id: str) -> dict[str, Any] | None:
        try:
            return dict(self.engine.json("GET", f"/containers/{engine_id}/json", "inspect"))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise DriverError(refused.message) from refused

    def _kill(self, engine_id: str, signal: str) -> bool:
        """False: it does not run, as is wanted."""
        try:
            self.engine.json("POST", f"/containers/{engine_id}/kill", "kill", params={"signal": signal})
        except Refused as refused:
            if refused.status not in (404, 409):
                raise DriverError(f"signal {signal} could not be sent: {refused.message}") from refused
            return False
        return True

    def _remove(self, engine_id: str) -> None:
        params = {"force": 1, "v": 1}
        try:
            self.engine.json("DELETE", f"/containers/{engine_id}", "remove", params=params)
        except Refused as refused:
            if refused.status not in (404, 409):  # gone, or going already
                raise DriverError(f"the container could not be removed: {refused.message}") from refused
        (self._links / engine_id).unlink(missing_ok=True)


def _is_ours(listed: dict[str, Any]) -> bool:
    """A container made from a commit of one of ours has inherited all of its labels, but not its name."""
    marks = listed["Labels"]
    wanted = f"/moor-{marks.get(labels.ALLOC)}-{marks.get(labels.TASK)}-{marks.get(labels.RUN)}"
    return wanted in listed["Names"]


def _age_s(path: Path) -> float:
    """0 for what has gone meanwhile."""
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
