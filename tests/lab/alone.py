"""One lab of a name a machine, whichever tree it is made from: the next one waits.

The lock is a socket without a file, which the kernel takes back when its process ends, however it does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alone(lab: str, *, patience_s: float = 1800) -> Iterator[None]:
    """Raises TimeoutError where the other one does not end."""
    with socket.socket(socket.AF_UNIX) as lock:
        until = time.monotonic() + patience_s
        told = False
        while True:
            try:
                lock.bind(f"\0moorage-lab-{lab}")
                break
            except OSError:
                if time.monotonic() > until:
                    raise TimeoutError(f"lab {lab} is still used by another process") from None
            if not told:
                told = True
                print(f"lab {lab} is used by another process: waiting for it", flush=True)
            time.sleep(0.2)
        yield
