"""Prometheus metrics of the process itself, and where daemons without an API of their own show them."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from a cache hit to an image pull."""


def exposition(registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """Body and content type of a scrape."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


async def serve_metrics(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> asyncio.Server:
    """A scrape endpoint on the process's own event loop: whatever is asked for, the metrics are the answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            body, content_type = exposition(registry)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # a scraper that went away is its own affair
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port)
