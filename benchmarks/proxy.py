"""A man in the middle of a unix socket: tells when a certain request went by."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class SocketProxy:
    def __init__(self, real: Path, path: Path) -> None:
        self._real = real
        self.path = path
        self._pattern = b""
        self._seen = threading.Event()
        self._at = 0.0

    def __enter__(self) -> SocketProxy:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def watch_for(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._seen.clear()

    def seen_at(self, timeout_s: float = 30) -> float:
        """Monotonic time at which the pattern first went towards the real socket."""
        if not self._seen.wait(timeout_s):
            raise TimeoutError(f"no {self._pattern!r} within {timeout_s} s")
        return self._at

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._real))
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, towards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if towards and not self._seen.is_set() and self._pattern and self._pattern in data:
                    self._at = time.monotonic()
                    self._seen.set()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
