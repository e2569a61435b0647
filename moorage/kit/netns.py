"""Work inside a network namespace without leaving the process.

A socket belongs for ever to the namespace in which it was opened, so it is enough that one helper thread enters the
namespace, opens the socket, and goes home: 0.1 ms, where a process of its own costs milliseconds and a fork of a
large daemon far more. Namespaces belong to threads; all other threads stay where they are. A helper that cannot go
home dies, and the next call gets a new one: nothing ever runs in the wrong namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise the OSError behind a failed call of the C library."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter(fd: int) -> None:
    """The calling thread alone changes its network namespace."""
    check(_libc.setns(fd, CLONE_NEWNET), "setns")


def leave_for_new() -> None:
    """The calling thread gets a new, empty network namespace."""
    check(_libc.unshare(CLONE_NEWNET), "unshare")


def own_path() -> str:
    """Names the network namespace of the calling thread, for as long as the thread lives."""
    return f"/proc/self/task/{threading.get_native_id()}/ns/net"


class NetnsHelper:
    """One thread, started when first needed, that visits namespaces and comes home after each visit."""

    def __init__(self, name: str = "netns") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] | None = None

    def submit(self, path: str | None, function: Callable[[], T]) -> Future[T]:
        """Run `function` in the namespace at `path`; None: at home, in a function that may change namespace."""
        future: Future[T] = Future()
        with self._lock:
            if self._jobs is None:
                self._jobs = self._new_thread()
            self._jobs.put(_Job(path, function, future))
        return future

    def run(self, path: str | None, function: Callable[[], T], timeout_s: float = 10.0) -> T:
        """Blocks; OSError where the namespace does not exist."""
        return self.submit(path, function).result(timeout_s)

    async def call(self, path: str | None, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self.submit(path, function))

    async def socket(self, path: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A non-blocking socket that belongs to the namespace at `path`."""
        opened = await self.call(path, lambda: socket.socket(family, kind))
        opened.setblocking(False)
        return opened

    def close(self) -> None:
        with self._lock:
            if self._jobs is not None:
                self._jobs.put(None)
                self._jobs = None

    def _new_thread(self) -> SimpleQueue[_Job | None]:
        jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._loop, args=(jobs,), name=self._name, daemon=True).start()
        return jobs

    def _loop(self, jobs: SimpleQueue[_Job | None]) -> None:
        home = os.open(own_path(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (job := jobs.get()) is not None:
                job.visit()
                try:
                    enter(home)
                except OSError:
                    self._replace(jobs)
                    return
        finally:
            os.close(home)

    def _replace(self, jobs: SimpleQueue[_Job | None]) -> None:
        """This thread is lost abroad: hand what still waits to a new one (which starts at home) and die."""
        with self._lock:
            if self._jobs is not jobs:
                return
            self._jobs = None
        while not jobs.empty():
            if (job := jobs.get()) is not None:
                self._resubmit(job)

    def _resubmit(self, job: _Job) -> None:
        with self._lock:
            if self._jobs is None:
                self._jobs = self._new_thread()
            self._jobs.put(job)


class _Job:
    __slots__ = ("_function", "_future", "_path")

    def __init__(self, path: str | None, function: Callable[[], Any], future: Future[Any]) -> None:
        self._path = path
        self._function = function
        self._future = future

    def visit(self) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            if self._path is not None:
                _enter_path(self._path)
            result = self._function()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


def _enter_path(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(fd)
    finally:
        os.close(fd)
