"""A process that holds several agents: their sessions and journals are real, driver and kernel are not.

Prints, ten times a second, how many complete sets its agents have taken in so far, as one number a line.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from prometheus_client import REGISTRY

from agent.main import serve
from agent.settings import parse
from moorage.kit import logging as logs


def main(arguments: list[str]) -> None:
    controllers, token_file, home, first, count = arguments
    logs.configure(level="error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_hold(controllers, token_file, Path(home), range(int(first), int(first) + int(count))))


async def _hold(controllers: str, token_file: str, home: Path, numbers: range) -> None:
    """Until killed; an agent that fails ends them all, and is seen."""
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            settings = parse(_flags(controllers, token_file, home, number))
            settings.data_dir.mkdir(parents=True)
            group.create_task(serve(settings))
        group.create_task(_count())


def _flags(controllers: str, token_file: str, home: Path, number: int) -> list[str]:
    folder = home / f"agent{number}"
    return [
        "--driver", "fake", "--controllers", controllers, "--token-file", token_file,
        "--node-name", f"fleet{number}", "--data-dir", str(folder / "data"), "--run-dir", str(folder / "run"),
        "--cpu-millis", "64000", "--memory-bytes", str(256 << 30), "--log-level", "error",
    ]  # fmt: skip


async def _count() -> None:
    while True:
        sys.stdout.write(f"{int(REGISTRY.get_sample_value('moor_agent_sets_total') or 0)}\n")
        sys.stdout.flush()
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1:])
