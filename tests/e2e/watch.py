"""A witness that looks at the engines all the time: a slot that runs twice is seen, however shortly."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress

from tests.e2e.truth import running
from tests.lab.cluster import Cluster


class Witness:
    """Remembers doubles seen while nothing excused them. A host unheard is an excuse, and so is the time after it

    in which the host that came back takes down what has been superseded.
    """

    def __init__(self, lab: Cluster, *, settle_s: float) -> None:
        self._lab = lab
        self._settle_s = settle_s
        self._excused_until = 0.0
        self._excuses = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.doubles: list[str] = []
        self.looks = 0

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def excuse(self) -> None:
        self._excuses += 1

    def settling(self) -> bool:
        return time.monotonic() < self._excused_until

    def settle(self) -> None:
        self._excuses -= 1
        self._excused_until = time.monotonic() + self._settle_s

    def _look(self) -> None:
        while not self._stop.wait(0.3):
            started = time.monotonic()
            with suppress(Exception):  # an engine that is being restarted does not answer
                found = running(self._lab)
                self.looks += 1
                if self._excuses == 0 and started > self._excused_until:
                    self._judge([(r.job, r.index, r.task, r.attempt, r.host) for r in found])

    def _judge(self, found: list[tuple[str, int, str, int, str]]) -> None:
        slots: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        for job, index, task, attempt, host in found:
            slots[job, index, task].append(f"attempt {attempt} on {host}")
        self.doubles += [f"{slot}: {', '.join(copies)}" for slot, copies in slots.items() if len(copies) > 1]
