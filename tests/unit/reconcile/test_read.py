"""What a node says of an allocation that runs, but not well."""

from __future__ import annotations

import pytest

from controller.reconcile.read import trouble
from moorage.wire.store_pb2 import AllocStatus, TaskStatus


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (AllocStatus(tasks=[TaskStatus(name="server", message="exited with code 3")]), "server: exited with code 3"),
        (
            AllocStatus(
                message="pulling a:1: 3 of 9 MiB",
                tasks=[TaskStatus(name="server", state="pulling", message="pulling a:1: 3 of 9 MiB")],
            ),
            "server: pulling its image",
        ),
        (
            AllocStatus(message="waits for another attempt", tasks=[TaskStatus(name="server")]),
            "waits for another attempt",
        ),
        (AllocStatus(), ""),
    ],
)
def test_what_keeps_an_allocation_from_being_healthy(status: AllocStatus, words: str) -> None:
    assert trouble(status) == words
