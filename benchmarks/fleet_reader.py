"""A process that reads the API the whole time, and tells how long that took.

Prints one line a request: the Unix time at which it was sent, its milliseconds, and 1 where it was answered.
"""

from __future__ import annotations

import itertools
import sys
import time

import httpx

PATHS = (
    "/v1/projects/default/jobs/fleet0",
    "/v1/projects/default/allocations?job=fleet0&limit=100",
    "/v1/nodes?limit=100",
    "/v1/projects/default/jobs?limit=50",
)
PAUSE_S = 0.05


def main(arguments: list[str]) -> None:
    url, token = arguments
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10) as client:
        for path in itertools.cycle(PATHS):
            sent, started = time.time(), time.monotonic()
            try:
                answered = client.get(path).status_code == 200
            except httpx.TransportError:
                answered = False
            sys.stdout.write(f"{sent:.3f} {(time.monotonic() - started) * 1000:.2f} {int(answered)}\n")
            sys.stdout.flush()
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
