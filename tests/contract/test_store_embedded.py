"""The etcd that belongs to a controller: started, adopted, restarted, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.embedded import EmbeddedEtcd, EtcdFailed
from controller.store.etcd import EtcdStore
from controller.store.protocol import Put
from tests.contract.etcds import free_port
from tests.contract.worlds import QUICK, eventually

pytestmark = pytest.mark.etcd


class Home:
    """A data directory and ports; every etcd that was started on them is gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "etcd"
        self._ports = free_port(), free_port()
        self.pids: set[int] = set()

    def etcd(self, *flags: str) -> EmbeddedEtcd:
        return EmbeddedEtcd(self.folder, *self._ports, flags=("--unsafe-no-fsync", *flags))

    async def started(self, *flags: str) -> EmbeddedEtcd:
        etcd = self.etcd(*flags)
        await etcd.start()
        self.pids.add(etcd.pid)
        return etcd


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    yield home
    assert not [pid for pid in home.pids if runs(pid)]


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


async def write(etcd: EmbeddedEtcd, key: str) -> None:
    store = await EtcdStore.connect([etcd.endpoint], watch_timings=QUICK)
    await store.commit([], [Put(key, b"")])
    await store.close()


async def keys_of(etcd: EmbeddedEtcd) -> list[str]:
    store = await EtcdStore.connect([etcd.endpoint], watch_timings=QUICK)
    listing = await store.list("/")
    await store.close()
    return [item.key for item in listing.items]


async def abandon(etcd: EmbeddedEtcd) -> None:
    """What a kill -9 of the controller leaves: nobody watches over etcd, and it goes on."""
    await etcd._owner.close()


async def trouble(etcd: EmbeddedEtcd, wanted: str) -> None:
    assert etcd.trouble.startswith(wanted) and bool(etcd.trouble) == bool(wanted)


async def test_it_answers_once_started_and_is_gone_once_stopped(home: Home) -> None:
    etcd = await home.started()
    await write(etcd, "/a")
    assert runs(etcd.pid) and os.getsid(etcd.pid) == etcd.pid
    await etcd.stop()
    assert etcd.pid == 0


async def test_what_was_written_is_there_after_a_stop_and_a_start(home: Home) -> None:
    first = await home.started()
    await write(first, "/a")
    await first.stop()
    second = await home.started()
    assert await keys_of(second) == ["/a"]
    await second.stop()


async def test_one_that_dies_is_started_again_and_its_trouble_is_told_meanwhile(home: Home) -> None:
    etcd = await home.started()
    await write(etcd, "/a")
    dead = etcd.pid
    os.kill(dead, signal.SIGKILL)
    await eventually(lambda: trouble(etcd, "etcd has ended"))
    await eventually(lambda: trouble(etcd, ""))
    home.pids.add(etcd.pid)
    assert etcd.pid not in (0, dead)
    assert await keys_of(etcd) == ["/a"]
    await etcd.stop()


async def test_one_left_by_a_killed_controller_is_adopted_and_watched_over(home: Home) -> None:
    killed = await home.started()
    await abandon(killed)
    heir = await home.started()
    assert heir.pid == killed.pid
    os.kill(heir.pid, signal.SIGKILL)
    await eventually(lambda: _another(heir, killed.pid))
    home.pids.add(heir.pid)
    await eventually(lambda: write(heir, "/a"))
    await heir.stop()


async def _another(etcd: EmbeddedEtcd, pid: int) -> None:
    assert etcd.pid not in (0, pid)


async def test_one_left_running_with_other_flags_is_replaced(home: Home) -> None:
    killed = await home.started()
    await write(killed, "/a")
    await abandon(killed)
    heir = await home.started("--max-txn-ops=256")
    assert heir.pid != killed.pid and not runs(killed.pid)
    assert await keys_of(heir) == ["/a"]
    await heir.stop()


async def test_one_that_was_stopped_by_a_signal_ends_all_the_same(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.store.embedded.STOP_S", 0.3)
    etcd = await home.started()
    os.kill(etcd.pid, signal.SIGSTOP)
    await etcd.stop()


async def test_one_whose_program_is_missing_for_a_while_comes_back_with_it(home: Home, tmp_path: Path) -> None:
    """As while the package is upgraded."""
    program = tmp_path / "etcd-program"
    program.symlink_to("/usr/bin/etcd")
    etcd = EmbeddedEtcd(home.folder, free_port(), free_port(), program=str(program), flags=("--unsafe-no-fsync",))
    await etcd.start()
    home.pids.add(etcd.pid)
    program.unlink()
    os.kill(etcd.pid, signal.SIGKILL)
    await eventually(lambda: trouble(etcd, "etcd cannot be started"))
    program.symlink_to("/usr/bin/etcd")
    await eventually(lambda: trouble(etcd, ""))
    home.pids.add(etcd.pid)
    await etcd.stop()


async def test_an_etcd_that_cannot_run_says_why_at_once(home: Home, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        etcd = EmbeddedEtcd(tmp_path / "other", taken.getsockname()[1], free_port())
        async with asyncio.timeout(10):
            with pytest.raises(EtcdFailed, match="address already in use"):
                await etcd.start()


async def test_a_missing_etcd_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EtcdFailed, match="apt-get install etcd-server"):
        await EmbeddedEtcd(tmp_path, free_port(), free_port(), program="no-such-etcd").start()
