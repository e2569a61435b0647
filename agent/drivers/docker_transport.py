"""HTTP over the engine's unix socket: pooled connections, and an answer that can be read piece by piece."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import BaseHTTPResponse


class _Connection(HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(self.timeout)
            opened.connect(self._path)
        except BaseException:
            opened.close()
            raise
        self.sock: socket.socket = opened


class Pool(HTTPConnectionPool):
    """Connections to one socket; more than `size` at once are made and not kept."""

    def __init__(self, path: str, timeout_s: float, size: int) -> None:
        super().__init__("localhost", timeout=timeout_s, maxsize=size, retries=False)
        self._path = path
        self._timeout_s = timeout_s

    def open(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None) -> Stream:
        """An answer on a connection of its own, which nobody uses after it."""
        connection = self._new_conn()
        try:
            connection.request(method, url, body, headers, preload_content=False)
            opened = connection.sock  # http.client lets go of it when it knows that the engine will close
            return Stream(connection.getresponse(), opened)
        except BaseException:
            connection.close()
            raise

    def _new_conn(self) -> _Connection:
        return _Connection(self._path, self._timeout_s)


class Stream:
    """An answer that is read in one thread, without a limit of time, and can be ended at once from any other."""

    def __init__(self, response: BaseHTTPResponse, opened: socket.socket) -> None:
        self.response = response
        self._socket = opened
        self._socket.settimeout(None)

    def lines(self) -> Iterator[bytes]:
        rest = b""
        try:
            for piece in self.response.stream(None):
                *whole, rest = (rest + piece).split(b"\n")
                yield from whole
            if rest:
                yield rest
        finally:
            self.release()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(1 stdout | 2 stderr, data) of a multiplexed answer."""
        try:
            while len(header := self._read(8)) == 8:
                channel, length = struct.unpack(">BxxxL", header)
                yield channel, self._read(length)
        finally:
            self.release()

    def close(self) -> None:
        """Wakes a reader that waits."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the engine was faster

    def release(self) -> None:
        """By the reader, when it has done (or has not even begun)."""
        self.response.close()
        self._socket.close()

    def _read(self, size: int) -> bytes:
        """Exactly that many bytes, or fewer at the end of the stream."""
        pieces: list[bytes] = []
        while size and (piece := self.response.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
