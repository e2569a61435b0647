"""`moor agent`: the daemon of one host.

Start: lock the data directory, learn which cluster this is (once in a node's life), read the journal, put a runner to
each allocation in it, and keep a session up. The end is orderly on SIGTERM and SIGINT, and workloads never notice
either; kill -9 does them as little harm, that is what the journal is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
import uvloop

from agent import identity
from agent.allocations import BOOT, Allocations
from agent.attachments import Attachments
from agent.engine import ContainerDriver, Engine
from agent.facts import FactsKeeper
from agent.host import Host
from agent.joining import learn_cluster
from agent.journal import Journal, JournalError, JournalFull
from agent.launch import Identity
from agent.outbox import Outbox
from agent.session import Link, Terms
from agent.settings import Settings, parse
from agent.version import VERSION
from moorage.kit import logging as logs
from moorage.kit.clock import Clock, SystemClock
from moorage.kit.datadir import AlreadyRunning, locked

log = structlog.get_logger()

JOURNAL_RETRY_S = 5.0


def command(arguments: list[str]) -> int:
    """Entry point of the `agent` command. Returns the exit code."""
    try:
        settings = parse(arguments)
    except ValueError as error:
        sys.stderr.write(f"moor agent: {error}\n")
        return 2
    logs.configure(level=settings.log_level, style=settings.log_format)
    try:
        with locked(settings.data_dir, "agent"):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run(settings))
    except (AlreadyRunning, JournalError, OSError) as error:
        sys.stderr.write(f"moor agent: {error}\n")
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(serve(settings), name="agent")
    stopping = asyncio.create_task(stop.wait(), name="signals")
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    log.info("ending; workloads keep running", node=settings.node_name)
    for task in (serving, stopping):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def serve(settings: Settings) -> None:
    """The agent itself, without signals and lock: for ever."""
    who = Identity(
        node_id=identity.node_id(settings.data_dir),
        node_name=settings.node_name,
        cluster_id=identity.cluster_id(settings.data_dir),
        address=settings.address or identity.address_towards(settings.controllers[0]),
    )
    if not who.cluster_id:
        who.cluster_id = await learn_cluster(settings, who)
        identity.join(settings.data_dir, who.cluster_id)
    async with _host(settings, who) as (host, keeper):
        await _work(settings, host, keeper)


async def _work(settings: Settings, host: Host, keeper: FactsKeeper) -> None:
    allocations = Allocations(host)
    usage = keeper.usage_of(allocations.alive)
    terms = Terms(settings.controllers, settings.token, VERSION, usage, settings.reconnect_cap_s)
    link = Link(host, allocations, await keeper.read(), terms)
    allocations.on_orphans(link.orphans_changed)
    allocations.restore(host.journal.memory)
    _settle_memory()
    try:
        async with _metrics(settings.metrics), asyncio.TaskGroup() as group:
            group.create_task(allocations.take_inventory(), name="inventory")
            group.create_task(link.run(), name="link")
            group.create_task(keeper.watch(link.facts_changed), name="facts")
    finally:
        await allocations.close()


def _settle_memory() -> None:
    """What was loaded until now stays: no collection need look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextlib.asynccontextmanager
async def _host(settings: Settings, who: Identity) -> AsyncIterator[tuple[Host, FactsKeeper]]:
    clock = SystemClock()
    journal = await _journal(settings.data_dir / "journal.db", clock)
    driver, attachments, keeper = _parts(settings, who)
    engine = Engine(driver, starts_in_flight=settings.starts_in_flight)
    boot = identity.boot(settings.run_dir)
    before = journal.memory.meta.get(BOOT, b"").decode()
    host = Host(
        who,
        engine,
        attachments,
        journal,
        Outbox(journal, clock),
        clock,
        random.Random(),
        boot,
        before not in ("", boot),
    )
    structlog.contextvars.bind_contextvars(node=who.node_name)  # for every line from here on
    log.info("agent started", node_id=who.node_id, cluster=who.cluster_id, rebooted=host.rebooted)
    try:
        yield host, keeper
    finally:
        with contextlib.suppress(JournalError):
            await journal.close()
        await engine.close()
        attachments.close()


async def _journal(path: Path, clock: Clock) -> Journal:
    """Waits for room on a full disk: what runs keeps running meanwhile, as it does while an agent is away."""
    told = False
    while True:
        try:
            return Journal(path)
        except JournalFull as error:
            if not told:
                told = True
                log.error("the journal cannot be opened; waiting for room", path=str(path), error=str(error))
            await clock.sleep(JOURNAL_RETRY_S)


def _parts(settings: Settings, who: Identity) -> tuple[ContainerDriver, Attachments, FactsKeeper]:
    """Only what the chosen driver needs is imported."""
    if settings.driver == "fake":
        from agent.fakes import fake_parts

        return fake_parts(settings, who)
    from agent.docker_parts import docker_parts

    return docker_parts(settings, who)


@contextlib.asynccontextmanager
async def _metrics(address: tuple[str, int] | None) -> AsyncIterator[None]:
    if address is None:
        yield
        return
    from moorage.kit.telemetry import serve_metrics

    async with await serve_metrics(*address):
        yield


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
