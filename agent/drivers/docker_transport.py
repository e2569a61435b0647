"""The SDK's connections to a unix socket, without its leak: it forgets to close a socket that could not be connected,
which is every try while an engine is away."""

from __future__ import annotations

import socket
from typing import Any

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(self.timeout)
            opened.connect(self.unix_socket)
        except BaseException:
            opened.close()
            raise
        self.sock = opened


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> _Connection:  # type: ignore[override]
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class Adapter(UnixHTTPAdapter):
    """One pool for one socket."""

    def __init__(self, socket_path: str, timeout_s: int, *, pool_size: int) -> None:
        super().__init__(f"http+unix://{socket_path}", timeout_s, max_pool_size=pool_size)
        self._pool = _Pool(f"http+unix://{socket_path}", socket_path, timeout_s, maxsize=pool_size)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()
