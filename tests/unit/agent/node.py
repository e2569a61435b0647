"""A whole agent in one process, less its session: the table, its runners, a real journal, and a fake engine.

The engine outlives the agent and the journal's file outlives both, so a test can kill and restart the agent as it
likes. The engine itself watches that no slot is ever doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

from agent.allocations import BOOT, Allocations
from agent.drivers import labels
from agent.drivers.fake import FakeDriver, FakeEngine, FakeTask
from agent.engine import Engine
from agent.fakes import FakeAttachments
from agent.host import Host
from agent.journal import Journal, JournalError
from agent.launch import Identity
from agent.outbox import Outbox
from moorage.kit.clock import ManualClock
from moorage.wire.session_pb2 import Assignment, Position
from moorage.wire.store_pb2 import AllocStatus

GRACE_MS = 60_000


class WatchedEngine(FakeEngine):
    """Notes each start beside another run or attempt of the same task of a slot."""

    doubles: list[str]

    def add(self, name: str, task: FakeTask) -> None:
        self.doubles = getattr(self, "doubles", [])
        place = _place(task)
        self.doubles += [
            f"{name} beside {other}"
            for other, found in self.tasks.items()
            if found.exit is None and _place(found) == place
        ]
        super().add(name, task)


def _place(task: FakeTask) -> tuple[str, ...]:
    return tuple(task.labels[key] for key in (labels.JOB_UID, labels.GROUP, labels.INDEX, labels.TASK))


class Node:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.engine = WatchedEngine(clock=self.clock)
        self.engine.doubles = []
        self.attachments = FakeAttachments()
        self.boots = 0
        self.revision = 0
        self._folder = folder
        self.up()

    def up(self) -> None:
        journal = Journal(self._folder / "journal.db")
        boot = f"boot-{self.boots}"
        before = journal.memory.meta.get(BOOT, b"").decode()
        driver = FakeDriver(self.engine, "cluster", "node")
        self.host = Host(
            Identity("node", "n1", "cluster"),
            Engine(driver),
            self.attachments,
            journal,
            Outbox(journal, self.clock),
            self.clock,
            random.Random(1),
            boot,
            before not in ("", boot),
        )
        self.allocations = Allocations(self.host)
        self.allocations.restore(journal.memory)
        self.host.owner.start(self.allocations.take_inventory(), "inventory")

    async def down(self) -> None:
        """As kill -9: what was noted and not yet handed to the journal is lost."""
        await self.allocations.close()
        await self.host.engine._owner.close()
        self.host.journal._noted.clear()
        await self.host.journal.close()

    async def restart(self) -> None:
        await self.down()
        self.up()
        await self.settle()

    async def lose_journal(self) -> None:
        """And restart without it."""
        await self.down()
        for file in self._folder.glob("journal.db*"):
            file.unlink()
        self.up()
        await self.settle()

    async def reboot(self) -> None:
        await self.down()
        self.boots += 1
        for name in list(self.engine.tasks):
            self.engine.kill(name)
        self.attachments.attached.clear()
        self.engine.away = False
        self.up()
        await self.settle()

    async def take_set(self, *assignments: Assignment) -> None:
        self.revision += 1
        await self.allocations.take_set(self._position(), assignments, GRACE_MS)
        await self.settle()

    async def take(self, *changed: Assignment, forgotten: tuple[str, ...] = ()) -> None:
        self.revision += 1
        await self.allocations.take_delta(self._position(), changed, forgotten)
        await self.settle()

    async def after(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Until every runner waits for something."""
        quiet = 0
        for _ in range(30):
            await asyncio.sleep(0.0005)
            with contextlib.suppress(JournalError):
                await self.host.journal.flush()  # however slowly its thread gets its turns
            quiet = quiet + 1 if not self._busy() else 0
            if quiet > 2:
                return

    def running(self) -> set[str]:
        return {name for name, task in self.engine.tasks.items() if task.exit is None}

    def status(self, assignment: Assignment) -> AllocStatus | None:
        runner = self.allocations.find(assignment.alloc)
        return runner.last if runner else None

    def _busy(self) -> bool:
        runners = self.allocations._runners.values()
        return any(runner._turning is not None and not runner._turning.done() for runner in runners)

    def _position(self) -> Position:
        return Position(generation=1, epoch=1, revision=self.revision)
