"""Streams of bytes as whole lines, each with the name of who wrote it; a name has a colour of its own on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TextIO
from zlib import crc32

STDERR = 2
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


class Prefixed:
    """Without a label, bytes pass as they are, channel by channel. With one, all goes to stdout in whole lines."""

    def __init__(self, label: str, colour: bool) -> None:
        self._partial: dict[int, bytes] = {}
        prefix = f"{label} | " if label else ""
        if prefix and colour:
            prefix = f"\x1b[{_COLOURS[crc32(label.encode()) % len(_COLOURS)]}m{prefix}\x1b[0m"
        self._prefix = prefix.encode()

    def write(self, channel: int, data: bytes) -> None:
        if not self._prefix:
            self._out(sys.stderr if channel == STDERR else sys.stdout, data)
            return
        *whole, rest = (self._partial.get(channel, b"") + data).split(b"\n")
        self._partial[channel] = rest
        if whole:
            self._out(sys.stdout, b"".join(self._prefix + line + b"\n" for line in whole))

    def close(self) -> None:
        """A last line without an end is given one."""
        for rest in self._partial.values():
            if rest:
                self._out(sys.stdout, self._prefix + rest + b"\n")
        self._partial.clear()

    def _out(self, stream: TextIO, data: bytes) -> None:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
