"""One controller, put together: store, cache, leadership, sessions, reconciler and API, and their order of life.

The event loop carries all of them, each as an owned task. If one of them ends although nobody asked it to, the whole
process ends with it: a controller that is only half there would be worse than one that is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import structlog
import uvicorn

from controller.api import ApiDeps, create_app
from controller.api.deps import ApiSettings
from controller.api.tokens import Role, authenticate, issue
from controller.cache import Cache, compare
from controller.dispatcher import Dispatcher
from controller.leader import Leader
from controller.leader.arrival import Arrival
from controller.options import Options
from controller.reconcile import Reconciler, ReconcileSettings
from controller.store.embedded import EmbeddedEtcd
from controller.store.etcd import EtcdStore
from controller.store.maintenance import Maintenance
from controller.store.protocol import Store, StoreError
from controller.store.trouble import Troubles
from moorage.kit.clock import SystemClock
from moorage.kit.datadir import write_whole
from moorage.kit.settings import Timings
from moorage.wire.store_pb2 import LeaderInfo

log = structlog.get_logger()

BOOTSTRAP_ROLES: tuple[Role, ...] = ("admin", "agent")
RETRY_S = 0.5


class Process:
    def __init__(self, options: Options, times: Timings, rng: random.Random, controller_id: str) -> None:
        self._options = options
        self._times = times
        self._rng = rng
        self._id = controller_id
        self._clock = SystemClock()
        self._troubles = Troubles()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, or a part fails (which is raised)."""
        async with self._etcd() as endpoints:
            store = await EtcdStore.connect(endpoints)
            try:
                await self._serve(store, stop)
            finally:
                await store.close()

    @contextlib.asynccontextmanager
    async def _etcd(self) -> AsyncIterator[list[str]]:
        if self._options.etcd:
            yield list(self._options.etcd)
            return
        port = self._options.etcd_port
        embedded = EmbeddedEtcd(
            self._options.data_dir / "etcd",
            port,
            port + 1,
            quota_bytes=self._options.etcd_quota,
            trouble=self._troubles.part(),
        )
        await embedded.start()
        try:
            yield [f"127.0.0.1:{port}"]
        finally:
            await embedded.stop()

    async def _serve(self, store: EtcdStore, stop: asyncio.Event) -> None:
        cache = Cache(store, self._clock)
        info = LeaderInfo(
            controller=self._id, agent_address=self._options.advertise_agents, api_url=self._options.advertise_api
        )
        leader = Leader(store, self._clock, self._id, info, int(self._times.lease), self._times.renew, rng=self._rng)
        dispatcher = Dispatcher(
            cache, store, leader, self._clock, self._times, lambda token: authenticate(cache, token)
        )
        settings = ReconcileSettings(keep_finished_s=self._times.keep_finished)
        reconciler = Reconciler(cache, leader, self._clock, self._rng, settings)
        self._troubles.subscribe(partial(_tell, reconciler))
        maintenance = Maintenance(
            store,
            self._clock,
            leader.may_maintain,
            keep_s=self._times.compact_every,
            trouble=self._troubles.part(),
        )
        arrival = Arrival(cache, store, self._clock, self._rng, self._id)
        deps = ApiDeps(
            cache,
            store,
            leader,
            dispatcher,
            self._clock,
            ApiSettings(controller_id=self._id),
            arrived=arrival.arrived,
            trouble=self._troubles.current,
        )
        app = create_app(deps)
        await _serve_agents(dispatcher, _joined(self._options.agents))
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "cache": cache.run(),
            "comparison": compare.run(cache, self._times.compare_every),
            "arrival": arrival.run(),
            "leader": _lead(arrival, leader),
            "reconciler": reconciler.run(),
            "maintenance": maintenance.run(),
            "bootstrap": self._bootstrap(store, cache, arrival),
            "http": _http(app, self._options.api, stop),
        }
        log.info("controller started", controller=self._id, api=self._options.advertise_api)
        try:
            await _all_until(parts, stop)
        finally:
            log.info("controller ending", controller=self._id)
            await dispatcher.close()

    async def _bootstrap(self, store: Store, cache: Cache, arrival: Arrival) -> None:
        """The first tokens of a new cluster, each in a file that only root reads."""
        await arrival.arrived.wait()
        for role in BOOTSTRAP_ROLES:
            path = self._options.data_dir / f"{role}.token"
            if path.exists() and authenticate(cache, path.read_text().strip()) is not None:
                continue
            token = await self._issued(store, role)
            write_whole(path, token, 0o600)
            log.info("token written", role=role, file=str(path))
        await asyncio.Event().wait()

    async def _issued(self, store: Store, role: Role) -> str:
        """A store that does not answer now is no reason to end; a token whose answer was lost is nobody's."""
        while True:
            try:
                return await issue(store, role, f"bootstrap-{role}", created_ms=self._clock.now_ms())
            except StoreError as error:
                log.info("no token yet", role=role, error=str(error))
                await self._clock.sleep(RETRY_S)


async def _serve_agents(dispatcher: Dispatcher, address: str) -> None:
    """Raises OSError."""
    try:
        await dispatcher.serve(address)
    except RuntimeError:
        raise OSError(f"cannot listen for agents at {address}: is it taken, or of another host?") from None


async def _lead(arrival: Arrival, leader: Leader) -> None:
    """Stand for election only after the arrival was marked, so that agents can tell an old backup."""
    await arrival.arrived.wait()
    _settle_memory()
    await leader.run()


def _tell(reconciler: Reconciler, trouble: str, begins: bool) -> None:
    if begins:
        reconciler.tell("store_trouble", trouble)
    else:
        reconciler.tell("store_recovered", f"is over: {trouble}")


def _settle_memory() -> None:
    """What was loaded until now stays: collections need not look at it again, and stall requests while they do."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _all_until(parts: dict[str, Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Run them side by side until told to stop; the first that fails ends all."""
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)


async def _http(app: Any, address: tuple[str, int], stop: asyncio.Event) -> None:
    """uvicorn without its signal handlers: the end is ours to order."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        # Longer than clients keep idle connections (httpx: 5 s), or a request meets one that is being closed.
        timeout_keep_alive=30,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    listener = _listen(address)
    serving = asyncio.create_task(server._serve([listener]), name="uvicorn")
    try:
        await asyncio.wait([serving, asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(serving), 4)
        listener.close()


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot serve the API at {_joined(address)}: {error.strerror}") from None
    return listener


def _joined(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
