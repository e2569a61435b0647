"""A single-member etcd that belongs to this controller: started with it, watched over, and stopped with it.

It is a session of its own, so that a controller that is killed leaves it running: workloads' state stays served and
the next controller on the same data directory adopts it. It is recognised by its command line in /proc, which no file
of ours could contradict; one that runs with other flags is replaced. A pidfd tells its end, adopted or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import structlog

from controller.store.trouble import Trouble
from moorage.kit.backoff import Jittered
from moorage.kit.clock import Clock, SystemClock
from moorage.kit.tasks import Owner

log = structlog.get_logger()

NAME = "moorage"
LOG_BYTES = 16 << 20
PROBE_S = 0.05
STOP_S = 10.0


class EtcdFailed(Exception):
    """etcd cannot be run; the message says why and what to do."""


class EmbeddedEtcd:
    """`data_dir` is etcd's own; what it says goes to a file beside it."""

    def __init__(
        self,
        data_dir: Path,
        client_port: int,
        peer_port: int,
        *,
        program: str = "etcd",
        quota_bytes: int = 2 << 30,
        flags: tuple[str, ...] = (),
        clock: Clock | None = None,
        rng: random.Random | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        self.endpoint = f"http://127.0.0.1:{client_port}"
        self._trouble = trouble or Trouble()
        self._data_dir = data_dir.absolute()
        self._client_port = client_port
        self._peer = f"http://127.0.0.1:{peer_port}"
        self._program = program
        self._flags = (f"--quota-backend-bytes={quota_bytes}", *flags)
        self._clock = clock or SystemClock()
        self._backoff = Jittered(rng or random.Random(), base_s=0.2, cap_s=10)
        self._owner = Owner("etcd")
        self._pid = 0

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._pid

    @property
    def trouble(self) -> str:
        """Why it does not run at present, in the user's words; empty: it runs."""
        return self._trouble.text

    async def start(self, timeout_s: float = 60.0) -> None:
        """Adopt or start it, and return once it answers. Raises EtcdFailed."""
        if shutil.which(self._program) is None:
            raise EtcdFailed(f"{self._program} is not installed: apt-get install etcd-server, or name other endpoints")
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pid = await self._adopt() or self._launch()
        if not await self._comes_up(timeout_s):
            await self.stop()
            raise EtcdFailed(f"etcd does not start: {self._last_words()}")
        self._owner.start(self._supervise(), "supervise")

    async def stop(self) -> None:
        await self._owner.close()
        pid, self._pid = self._pid, 0
        if pid:
            await _end(pid)

    async def _comes_up(self, timeout_s: float) -> bool:
        """False: it has ended, or does not answer in time."""
        answers = self._owner.start(self._answers(), "answers")
        ended = self._owner.start(_gone(self._pid), "ended")
        await asyncio.wait({answers, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        up = answers.done()
        await self._owner.close()
        return up

    async def _adopt(self) -> int:
        """The process id of one that was left running as we would run it; 0: there is none (any more)."""
        for pid, arguments in _processes():
            if f"--data-dir={self._data_dir}" not in arguments:
                continue
            if arguments[1:] == self._command()[1:]:
                log.info("etcd adopted", pid=pid)
                return pid
            log.info("etcd runs with other flags: it is replaced", pid=pid)
            await _end(pid)
        return 0

    def _launch(self) -> int:
        with self._log_file().open("ab") as output:
            if output.tell() > LOG_BYTES:
                output.truncate(0)
            process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._data_dir,
                env={"PATH": os.environ.get("PATH", os.defpath)},  # etcd also takes flags from ETCD_…: not from ours
                start_new_session=True,
            )
        process.returncode = 0  # reaped by `_gone`, as far as it is ours to reap
        log.info("etcd started", pid=process.pid, data_dir=str(self._data_dir))
        return process.pid

    def _command(self) -> list[str]:
        return [
            self._program,
            f"--name={NAME}",
            f"--data-dir={self._data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster={NAME}={self._peer}",
            "--snapshot-count=10000",
            "--logger=zap",
            "--log-outputs=stderr",
            "--log-level=warn",
            *self._flags,
        ]

    async def _supervise(self) -> None:
        """It runs, or it is started again after a pause that grows while it keeps dying."""
        while True:
            began = self._clock.monotonic()
            await _gone(self._pid)
            self._pid = 0
            self._trouble.say(f"etcd has ended: {self._last_words()}")
            log.error("etcd ended", words=self._last_words())
            if self._clock.monotonic() - began > 60:
                self._backoff.reset()
            self._pid = await self._relaunch()
            self._owner.start(self._recovered(self._pid), "recovered")

    async def _relaunch(self) -> int:
        """After a pause, and again until there is a process: the program may be missing while it is upgraded."""
        while True:
            await self._clock.sleep(self._backoff.next_s())
            try:
                return self._launch()
            except OSError as error:
                self._trouble.say(f"etcd cannot be started: {error}")
                log.error("etcd cannot be started", error=str(error))

    async def _recovered(self, pid: int) -> None:
        await self._answers()
        if self._pid == pid:
            self._trouble.say("")

    async def _answers(self) -> None:
        """etcd serves its clients once it has joined its cluster: any answer will do, a full one answers too."""
        while not await _asked(self._client_port):  # noqa: ASYNC110 (another process's port has no event)
            await asyncio.sleep(PROBE_S)

    def _log_file(self) -> Path:
        return self._data_dir.with_name(self._data_dir.name + ".log")

    def _last_words(self) -> str:
        try:
            lines = self._log_file().read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return next((line.strip()[-400:] for line in reversed(lines) if line.strip()), "it said nothing")


async def _asked(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /version HTTP/1.0\r\n\r\n")
        return b"etcdserver" in await asyncio.wait_for(reader.read(), 1)
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


def _processes() -> list[tuple[int, list[str]]]:
    """Process ids and command lines of whatever runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(entry.name), (entry / "cmdline").read_text(errors="replace").split("\0")[:-1]))
    return found


async def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL where that does not help (or where it is stopped)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await _gone(pid)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await _gone(pid)


async def _gone(pid: int) -> None:
    """Waits for the end of a process, a child or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (does not wait)
