"""Each step shows itself and its time while it works."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Steps:
    def __init__(self) -> None:
        self._started = time.monotonic()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        started = time.monotonic()
        stop = threading.Event()
        ticker = threading.Thread(target=_tick, args=(text, started, stop), daemon=True)
        if sys.stdout.isatty():
            ticker.start()
        mark = "✗"
        try:
            yield
            mark = "✓"
        finally:
            stop.set()
            if ticker.is_alive():
                ticker.join()
            clear = "\r\033[K" if sys.stdout.isatty() else ""
            print(f"{clear}  {mark} {text:<58} {time.monotonic() - started:6.1f} s", flush=True)

    def total(self) -> float:
        return time.monotonic() - self._started


def _tick(text: str, started: float, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        print(f"\r\033[K  … {text:<58} {time.monotonic() - started:6.1f} s", end="", flush=True)
