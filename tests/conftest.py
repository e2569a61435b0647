"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_are_nobodys() -> Iterator[None]:
    """A daemon configures its logs for the whole process: one that a test runs belongs into a process of its own.

    Loggers would keep the stream that the test had captured, and every later line of theirs would fail.
    """
    yield
    assert not structlog.get_config()["cache_logger_on_first_use"], "run the daemon as a process"
