"""Each step shows itself and its time while it works: a line that ticks on a terminal, else one line at its end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 58  # of a step's text
AROUND = 16  # what goes before and after it: mark, time, and room for ^C
_COLOURS = {"✓": "\033[32m✓\033[0m", "✗": "\033[31m✗\033[0m", "…": "\033[36m…\033[0m"}


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
            print(f"{clear}{_line(mark, text, time.monotonic() - started)}", flush=True)

    def total(self) -> float:
        return time.monotonic() - self._started


def _tick(text: str, started: float, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        print(f"\r\033[K{_line('…', text, time.monotonic() - started)}", end="", flush=True)


def _line(mark: str, text: str, seconds: float) -> str:
    """In one line of the terminal: a longer one could not be written over."""
    on_terminal = sys.stdout.isatty()
    width = min(WIDTH, max(shutil.get_terminal_size().columns - AROUND, 8)) if on_terminal else WIDTH
    if on_terminal and len(text) > width:
        text = text[: width - 1] + "…"
    if on_terminal and not os.environ.get("NO_COLOR"):
        mark = _COLOURS[mark]
    return f"  {mark} {text:<{width}} {seconds:6.1f} s"
