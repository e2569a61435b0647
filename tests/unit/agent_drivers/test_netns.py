"""Visits to namespaces, and namespaces of our own (needs root, as the product does)."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.drivers.netns import BoundNetns
from moorage.kit import netns
from moorage.kit.netns import NetnsHelper, own_path
from netvirt.netlink.namespace import Namespaces, inode

HOME = Path("/proc/self/ns/net")


@pytest.fixture
def helper() -> Iterator[NetnsHelper]:
    found = NetnsHelper("test-netns")
    yield found
    found.close()


@pytest.fixture
def namespaces(tmp_path: Path, helper: NetnsHelper) -> Iterator[Namespaces]:
    found = Namespaces(tmp_path / "netns", helper)
    found.open()
    yield found
    found.close()


def where() -> int:
    return os.stat(own_path()).st_ino


def test_a_namespace_is_made_once_and_kept(namespaces: Namespaces) -> None:
    path = namespaces.make("a1")
    first = inode(path)
    assert first != inode(HOME)
    assert inode(namespaces.make("a1")) == first
    assert inode(namespaces.make("a2")) != first
    assert namespaces.names() == ["a1", "a2"]


def test_its_loopback_is_up(namespaces: Namespaces, helper: NetnsHelper) -> None:
    def connects() -> bool:
        with socket.socket() as server, socket.socket() as client:
            server.bind(("127.0.0.1", 0))
            server.listen()
            client.connect(server.getsockname())
            return True

    assert helper.run(str(namespaces.make("a1")), connects)


def test_removing_may_be_repeated(namespaces: Namespaces) -> None:
    namespaces.make("a1")
    namespaces.remove("a1")
    namespaces.remove("a1")
    assert not namespaces.exists("a1")
    assert namespaces.names() == []


def test_what_a_crash_left_half_done_is_listed_and_made_whole(namespaces: Namespaces) -> None:
    namespaces.path("a1").touch()
    assert namespaces.names() == ["a1"]
    assert not namespaces.exists("a1")
    assert inode(namespaces.make("a1")) != inode(HOME)
    assert namespaces.exists("a1")


def test_a_namespace_of_somebody_else_can_be_held(namespaces: Namespaces) -> None:
    theirs = namespaces.make("a1")
    held = namespaces.hold("a2", str(theirs))
    namespaces.remove("a1")
    assert namespaces.exists("a2")
    assert inode(held) != inode(HOME)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(namespaces: Namespaces, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        namespaces.make(name)


def test_other_mount_namespaces_see_what_comes_and_goes(namespaces: Namespaces) -> None:
    """As an engine does that runs in a copy of ours."""
    script = 'echo ready; read line; stat -L -c %i "$0"; read line; [ -e "$0" ] && stat -f -c %T "$0"; exit 0'
    path = namespaces.path("a1")
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        namespaces.make("a1")
        engine.stdin.write("look\n")
        assert engine.stdout.readline() == f"{inode(path)}\n"
        namespaces.remove("a1")
        engine.stdin.write("look\n")
        assert engine.stdout.readline() == ""


def test_who_does_not_see_the_mounts_sees_the_mark_below_them(namespaces: Namespaces) -> None:
    """As an engine whose mount namespace takes nothing from ours: the OCI runtime refuses by that mark."""
    script = 'echo ready; read line; [ -x "$0" ] && echo marked'
    path = namespaces.path("a1")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        namespaces.make("a1")
        engine.stdin.write("look\n")
        assert engine.stdout.readline() == "marked\n"
    assert subprocess.run(["sh", "-c", f"[ -x {path} ]"], check=False).returncode == 1


def test_opening_a_directory_again_changes_nothing(namespaces: Namespaces, tmp_path: Path) -> None:
    def mounts() -> int:
        return sum(str(tmp_path) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())

    before = mounts()
    namespaces.open()
    assert mounts() == before == 1


def test_closing_leaves_no_mount_and_no_file(tmp_path: Path, helper: NetnsHelper) -> None:
    found = Namespaces(tmp_path / "other", helper)
    found.open()
    found.make("a1")
    found.close()
    found.close()
    assert not (tmp_path / "other").exists()
    assert str(tmp_path / "other") not in Path("/proc/self/mountinfo").read_text()


def test_a_visit_ends_at_home_whatever_happens_in_it(namespaces: Namespaces, helper: NetnsHelper) -> None:
    path = str(namespaces.make("a1"))

    def fails() -> None:
        raise RuntimeError("abroad")

    assert helper.run(path, where) == inode(Path(path))
    with pytest.raises(RuntimeError, match="abroad"):
        helper.run(path, fails)
    assert helper.run(None, where) == inode(HOME) == where()


def test_a_namespace_that_does_not_exist_is_an_error_of_the_caller_alone(helper: NetnsHelper) -> None:
    with pytest.raises(FileNotFoundError):
        helper.run("/nowhere/a1", where)
    assert helper.run(None, where) == inode(HOME)


def test_a_helper_that_cannot_go_home_dies_and_the_next_call_gets_a_new_one(
    namespaces: Namespaces, helper: NetnsHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(namespaces.make("a1"))
    real, calls = netns.enter, iter([True, False])

    def lost_on_the_way_home(fd: int) -> None:
        if next(calls, True):
            return real(fd)
        raise OSError(errno.EPERM, "no way home")

    monkeypatch.setattr(netns, "enter", lost_on_the_way_home)
    assert helper.run(path, where) == inode(Path(path))
    assert helper.run(None, where) == inode(HOME)


async def test_a_socket_belongs_to_the_namespace_in_which_it_was_opened(
    namespaces: Namespaces, helper: NetnsHelper
) -> None:
    path = str(namespaces.make("a1"))
    with await helper.socket(path) as inside, await helper.socket(path) as other:
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
            outside.connect(inside.getsockname())
        assert other.connect_ex(inside.getsockname()) in (0, errno.EINPROGRESS)
        assert not other.getblocking()


async def test_the_provider_makes_keeps_and_removes(namespaces: Namespaces, helper: NetnsHelper) -> None:
    provider = BoundNetns(namespaces, helper)
    first = await provider.ensure("a1")
    assert await provider.ensure("a1") == first
    assert await provider.names() == ["a1"]
    await provider.remove("a1")
    await provider.remove("a1")
    assert await provider.names() == []
    assert helper.run(None, where) == inode(HOME)
