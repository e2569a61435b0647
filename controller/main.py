"""`moor controller`: one process that serves the API, holds agent sessions, and reconciles while it leads.

Start: lock the data directory, bring up the embedded etcd (unless endpoints are given), follow the store, then serve.
The end is orderly on SIGTERM and SIGINT: leadership is given back, sessions are told to try again, etcd goes last.
Workloads never notice either.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import uvloop

from controller.options import Options
from controller.store.embedded import EtcdFailed
from moorage.kit import logging as logs
from moorage.kit.datadir import AlreadyRunning, kept_id, locked
from moorage.kit.settings import Timings, timings
from moorage.model.quantities import QuantityError, parse_bytes


def command(arguments: list[str]) -> int:
    """Entry point of the `controller` command. Returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        options, times = _options(given), timings()
    except ValueError as error:
        sys.stderr.write(f"moor controller: {error}\n")
        return 2
    logs.configure(level=given.log_level, style=given.log_format)
    try:
        with locked(options.data_dir, "controller"):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(options, times))
    except (AlreadyRunning, EtcdFailed, OSError) as error:
        sys.stderr.write(f"moor controller: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moor controller", description=__doc__.partition("\n")[0])
    environment = os.environ.get
    parser.add_argument(
        "--data-dir", type=Path, default=Path(environment("MOOR_DATA_DIR", "/var/lib/moorage/controller"))
    )
    parser.add_argument("--api", default=environment("MOOR_API", "127.0.0.1:7070"), help="HOST:PORT of the REST API")
    parser.add_argument("--agents", default=environment("MOOR_AGENTS", "127.0.0.1:7071"), help="HOST:PORT for agents")
    parser.add_argument(
        "--etcd", default=environment("MOOR_ETCD", ""), help="endpoints, comma-separated; none: embedded"
    )
    parser.add_argument(
        "--etcd-port", type=int, default=int(environment("MOOR_ETCD_PORT", "2379")), help="of the embedded one"
    )
    parser.add_argument(
        "--etcd-quota", default=environment("MOOR_ETCD_QUOTA", "2Gi"), help="room of the embedded one, like 2Gi"
    )
    parser.add_argument("--advertise-api", default="", help="URL that others reach the API at")
    parser.add_argument("--advertise-agents", default="", help="HOST:PORT that agents reach this controller at")
    parser.add_argument("--log-level", choices=sorted(logs.LEVELS), default=environment("MOOR_LOG_LEVEL", "info"))
    parser.add_argument("--log-format", choices=["auto", "json", "text"], default="auto")
    return parser


def _options(given: argparse.Namespace) -> Options:
    api, agents = _address("--api", given.api), _address("--agents", given.agents)
    return Options(
        data_dir=given.data_dir,
        api=api,
        agents=agents,
        etcd=tuple(part for part in given.etcd.split(",") if part),
        etcd_port=given.etcd_port,
        etcd_quota=_size("--etcd-quota", given.etcd_quota),
        advertise_api=given.advertise_api or f"http://{given.api}",
        advertise_agents=given.advertise_agents or given.agents,
    )


def _address(flag: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError(f"{flag} wants HOST:PORT, for example 127.0.0.1:7070, not {text!r}")
    return host.strip("[]"), int(port)


def _size(flag: str, text: str) -> int:
    try:
        return parse_bytes(text)
    except QuantityError as error:
        raise ValueError(f"{flag}: {error}") from None


async def _run(options: Options, times: Timings) -> None:
    # Imported here, so that --help and wrong flags answer at once.
    from controller.process import Process

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # The id is kept, so that a restarted controller is known to be the same one and leads again at once.
    process = Process(options, times, random.Random(), kept_id(options.data_dir / "id"))
    await process.run(stop)


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
