"""What etcd rarely does, done on purpose: the rules of a watch fed by hand, and streams of a server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from controller.store.etcd import EtcdStore
from controller.store.etcd_watch import ASKED_FOR, Feed, Gap
from controller.store.protocol import Batch, Changes, KeyValue, Reset
from controller.store.rpc import pb
from tests.contract.worlds import QUICK

PUT, DELETE = 0, 1


def event(key: str, revision: int, kind: int = PUT, created: int = 1) -> Any:
    return pb.Event(
        type=kind, kv=pb.KeyValue(key=key.encode(), value=b"v", mod_revision=revision, create_revision=created)
    )


def answer(revision: int, *events: Any, **fields: Any) -> Any:
    return pb.WatchResponse(header=pb.ResponseHeader(revision=revision), events=events, **fields)


def progress(revision: int) -> Any:
    return answer(revision, watch_id=ASKED_FOR)


def fed(feed: Feed, *answers: Any) -> list[Changes]:
    return [batch for each in answers for batch in feed.take(each)]


def test_the_answer_to_a_request_for_progress_counts_once_the_next_is_there() -> None:
    feed = Feed(10)
    assert fed(feed, progress(15)) == []
    assert fed(feed, progress(20)) == [Changes([], [], 15)]


def test_events_that_come_after_a_premature_promise_of_progress_are_not_lost() -> None:
    """etcd 3.4.23 may say 15 before it sends the event of 12."""
    feed = Feed(10)
    batches = fed(feed, progress(15), answer(15, event("/a", 12)), progress(15))
    assert [batch.revision for batch in batches] == [12, 15]


def test_an_event_below_what_was_passed_is_a_gap() -> None:
    feed = Feed(10)
    fed(feed, progress(15), progress(15))
    with pytest.raises(Gap, match="after its revision was passed"):
        fed(feed, answer(15, event("/a", 12)))


def test_progress_that_etcd_tells_by_itself_counts_at_once() -> None:
    assert fed(Feed(10), answer(15, watch_id=0)) == [Changes([], [], 15)]


@pytest.mark.parametrize("late", [progress(9), answer(9, created=True), answer(9, event("/a", 9))])
def test_an_answer_from_before_what_we_have_seen_is_another_history(late: Any) -> None:
    with pytest.raises(Gap, match="backwards"):
        fed(Feed(10), late)


def test_a_cancelled_watch_says_why() -> None:
    with pytest.raises(Gap, match="compacted"):
        fed(Feed(10), answer(20, canceled=True, compact_revision=15))
    with pytest.raises(Gap, match="no leader"):
        fed(Feed(10), answer(20, canceled=True, cancel_reason="etcdserver: no leader"))


def test_fragments_of_one_transaction_make_one_batch() -> None:
    parts = [answer(11, event(f"/{number}", 11), fragment=number < 2) for number in range(3)]
    (batch,) = fed(Feed(10), *parts)
    assert [put.key for put in batch.puts] == ["/0", "/1", "/2"] and batch.revision == 11


def test_a_key_occurs_once_with_its_newest_change() -> None:
    (batch,) = fed(
        Feed(10),
        answer(
            14,
            event("/again", 11, DELETE),
            event("/gone", 12),
            event("/again", 13, created=13),
            event("/gone", 14, DELETE),
        ),
    )
    assert batch == Changes([KeyValue("/again", b"v", 13, 13)], ["/gone"], 14)


Script = Callable[[Any], Awaitable[None]]
"""What the server does with one watch's stream."""


class Server:
    """Enough of etcd to list one key and to mistreat watches: each stream follows the next script, later ones hang."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts: Iterator[Script] = iter(scripts)
        self.revision = 10
        self.streams = 0

    async def range(self, request: Any, context: Any) -> Any:
        kv = pb.KeyValue(key=b"/a", value=b"%d" % self.revision, mod_revision=self.revision, create_revision=1)
        return pb.RangeResponse(header=pb.ResponseHeader(revision=self.revision), kvs=[kv])

    async def watch(self, requests: AsyncIterator[Any], context: Any) -> None:
        self.streams += 1
        await anext(requests)
        await context.write(answer(self.revision, created=True))
        await next(self._scripts, hang)(context)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[EtcdStore]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (self._handlers("KV", Range=self.range), self._handlers("Watch", Watch=self.watch))
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        store = await EtcdStore.connect([f"127.0.0.1:{port}"], watch_timings=QUICK)
        yield store
        await store.close()
        await server.stop(None)

    def _handlers(self, service: str, **methods: Any) -> grpc.GenericRpcHandler:
        unary = {
            name: grpc.unary_unary_rpc_method_handler(
                method, pb.RangeRequest.FromString, pb.RangeResponse.SerializeToString
            )
            if name == "Range"
            else grpc.stream_stream_rpc_method_handler(
                method, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString
            )
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(f"etcdserverpb.{service}", unary)


async def hang(context: Any) -> None:
    await asyncio.sleep(3600)


async def end_cleanly(context: Any) -> None:
    return


async def fail(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")


async def take(store: EtcdStore, count: int) -> list[Batch]:
    batches: list[Batch] = []
    async with asyncio.timeout(10), aclosing(store.watch("/")) as watch:
        async for batch in watch:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


@pytest.mark.parametrize("script", [end_cleanly, fail, hang], ids=["ended cleanly", "failed", "silent"])
async def test_a_stream_that_is_of_no_use_any_more_is_followed_by_a_reset(script: Script) -> None:
    server = Server(script)
    async with server.store() as store:
        batches = await take(store, 2)
    assert [type(batch) for batch in batches] == [Reset, Reset]


async def test_a_history_that_went_back_between_the_list_and_the_watch_is_a_reset() -> None:
    server = Server()
    original = server.watch

    async def watch(requests: AsyncIterator[Any], context: Any) -> None:
        server.revision = 5
        await original(requests, context)

    server.watch = watch  # type: ignore[method-assign]
    async with server.store() as store:
        batches = await take(store, 2)
    assert [batch.revision for batch in batches] == [10, 5]


async def test_a_closed_watch_ends_its_stream() -> None:
    ended = asyncio.Event()

    async def until_cancelled(context: Any) -> None:
        await context.write(answer(11, event("/a", 11)))
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    server = Server(until_cancelled)
    async with server.store() as store:
        await take(store, 2)
        async with asyncio.timeout(5):
            await ended.wait()
    assert server.streams == 1
