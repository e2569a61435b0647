"""Images on one engine: which are there, and how the others get there.

What is known to be there is not asked for again: a start costs no call for its image. Should an image have been
removed meanwhile, the start is refused for it, and `forget` makes the next preparation look again. A pull is shared by
all who wait for the same image, and goes on when one of them no longer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

from agent.drivers.docker_engine import Engine, Refused
from agent.drivers.docker_errors import never_pulled, pull_error
from agent.drivers.protocol import DriverError, EngineAway, Progress
from agent.drivers.pump import pumped
from moorage.kit.tasks import Owner
from moorage.wire.spec_pb2 import PULL_ALWAYS, PULL_NEVER, ContainerSpec

_MIB = 1 << 20


class Images:
    def __init__(self, engine: Engine, tasks: Owner) -> None:
        self._engine = engine
        self._tasks = tasks
        self._known: set[str] = set()
        self._pulls: dict[str, _Pull] = {}

    def forget(self, image: str) -> None:
        self._known.discard(image)

    def forget_all(self) -> None:
        """After the engine was away: it may be another one, or somebody tidied up."""
        self._known.clear()

    async def ensure(self, container: ContainerSpec) -> AsyncGenerator[Progress, None]:
        """The image is there when this ends; DriverError where it cannot be had."""
        image = container.image
        if container.pull != PULL_ALWAYS and await self._is_there(image):
            return
        if container.pull == PULL_NEVER:
            raise never_pulled(image)
        async for progress in self._pull(image):
            yield progress

    async def _is_there(self, image: str) -> bool:
        if image in self._known:
            return True
        try:
            await self._engine.run(self._engine.json, "GET", f"/images/{quote(image, safe='/:@')}/json", "image")
        except Refused as refused:
            if refused.status != 404:
                raise pull_error(image, refused.message) from refused
            return False
        self._known.add(image)
        return True

    async def _pull(self, image: str) -> AsyncGenerator[Progress, None]:
        pull = self._pulls.get(image)
        if pull is None or pull.ended:
            pull = self._pulls[image] = _Pull(image)
            task = self._tasks.start(pull.run(lambda: self._stream(image)), f"pull {image}")
            task.add_done_callback(partial(self._pulled, image, pull))
        async for progress in pull.follow():
            yield progress
        self._known.add(image)

    def _pulled(self, image: str, pull: _Pull, _: asyncio.Task[None]) -> None:
        if self._pulls.get(image) is pull:
            del self._pulls[image]

    def _stream(self, image: str) -> Iterator[dict[str, Any]]:
        """The engine's reports; the SDK adds the node's credentials for the registry."""
        from docker.errors import APIError, DockerException
        from requests import RequestException

        try:
            with self._engine.sdk() as client:
                yield from client.pull(image, stream=True, decode=True)
        except APIError as error:
            raise pull_error(image, str(error.explanation or error)) from error
        except (DockerException, RequestException) as error:
            raise EngineAway(f"the container engine does not answer ({error})") from error


class _Pull:
    """One pull and those who follow it."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, tuple[int, int]] = {}
        self._changed = asyncio.Event()
        self.ended = False
        self._error: Exception | None = DriverError(f"the pull of image {image} was interrupted")

    async def run(self, stream: Callable[[], Iterator[dict[str, Any]]]) -> None:
        """Never fails itself: those who follow get to know."""
        try:
            async for report in pumped(stream, lambda: None, name="docker-pull", ahead=64):
                self._take(report)
            self._error = None
        except Exception as error:
            self._error = error
        finally:
            self.ended = True
            self._changed.set()

    async def follow(self) -> AsyncGenerator[Progress, None]:
        said = ""
        while not self.ended:
            await self._changed.wait()
            self._changed.clear()
            if (message := self.message()) != said:
                said = message
                yield Progress(message)
        if self._error is not None:
            raise self._error

    def message(self) -> str:
        done = sum(current for current, _ in self._layers.values())
        total = sum(total for _, total in self._layers.values())
        if not total:
            return f"pulling {self._image}"
        return f"pulling {self._image}: {done // _MIB} of {-(-total // _MIB)} MiB"

    def _take(self, report: dict[str, Any]) -> None:
        if "error" in report:
            raise pull_error(self._image, str(report["error"]))
        detail = report.get("progressDetail") or {}
        layer = str(report.get("id", ""))
        if report.get("status") == "Downloading" and "total" in detail:
            self._layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif report.get("status") in ("Download complete", "Pull complete") and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        self._changed.set()
