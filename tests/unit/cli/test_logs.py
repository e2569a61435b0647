from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.client import ApiProblem, Client
from moorage.model.view import AllocationView, Problem, TaskView
from tests.unit.cli.conftest import Moor
from tests.unit.cli.fake import ALLOCATIONS, JOBS, RESET, SYNCED, FakeApi, Lines, alloc, gone, job, problem, put

SERVER, SIDE = TaskView(name="server", state="running"), TaskView(name="side", state="running")


class Streams:
    """What tasks wrote, by allocation and task; and how it was asked for."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        self.asked: list[dict[str, Any]] = []

    async def logs(self, client: Client, alloc: str, **options: Any) -> AsyncIterator[tuple[int, bytes]]:
        self.asked.append({"alloc": alloc, **options})
        if (alloc, options["task"]) not in self.written:
            raise ApiProblem(Problem(title="t", status=503, code="node_unreachable", detail="The node is lost."))
        for item in self.written[alloc, options["task"]]:
            yield item


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    found = Streams()
    monkeypatch.setattr(Client, "logs", lambda client, alloc, **options: found.logs(client, alloc, **options))
    return found


def test_one_allocation_is_printed_as_it_is_on_the_channels_it_was_written_to(
    moor: Moor, api: FakeApi, streams: Streams
) -> None:
    api.on_list(ALLOCATIONS, []).on(f"GET {ALLOCATIONS}/0a", alloc("0a", tasks=[SERVER]))
    streams.written["0a", "server"] = [(1, b"out"), (2, b"err\n"), (1, b" more\n")]

    result = moor("logs", "0a", "--tail", "10", "--timestamps")

    assert (result.code, result.out, result.err) == (0, "out more\n", "err\n")
    (asked,) = streams.asked
    assert (asked["tail"], asked["timestamps"], asked["follow"]) == (10, True, False)


def test_of_a_job_every_whole_line_carries_its_allocation(moor: Moor, api: FakeApi, streams: Streams) -> None:
    second = alloc("0b", tasks=[SERVER, SIDE], index=1, name="hello/web/1")
    old = alloc("0c", tasks=[SERVER], phase="failed")
    api.on_list(ALLOCATIONS, [second, old, alloc("0a", tasks=[SERVER])])
    streams.written = {
        ("0a", "server"): [(1, b"one\ntw"), (1, b"o\nlast")],
        ("0b", "server"): [(2, b"three\n")],
        ("0b", "side"): [(1, b"four\n")],
    }

    result = moor("logs", "hello")

    assert result.out.splitlines() == [
        "hello/web/0 | one",
        "hello/web/0 | two",
        "hello/web/0 | last",
        "hello/web/1 server | three",
        "hello/web/1 side | four",
    ]


def test_of_a_job_that_is_over_what_ended_is_shown(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, [alloc("0c", tasks=[SERVER], phase="failed")])
    streams.written["0c", "server"] = [(1, b"bye\n")]

    assert moor("logs", "job/hello").out == "hello/web/0 | bye\n"


def test_of_a_slot_between_two_starts_what_it_wrote_last_is_shown(moor: Moor, api: FakeApi, streams: Streams) -> None:
    before, now = alloc("0c", tasks=[SERVER], phase="failed"), alloc("0d", tasks=[SERVER], attempt=2)
    api.on_list(ALLOCATIONS, [now, before])
    streams.written["0c", "server"] = [(1, b"out of luck\n")]

    result = moor("logs", "hello")

    assert (result.out, result.err) == ("hello/web/0 | out of luck\n", "")


def test_one_unreachable_node_does_not_hide_the_others(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, [alloc("0a", tasks=[SERVER]), alloc("0b", tasks=[SERVER], name="hello/web/1", index=1)])
    streams.written["0b", "server"] = [(1, b"here\n")]

    result = moor("logs", "hello")

    assert (result.code, result.out) == (0, "hello/web/1 | here\n")
    assert "moor: logs of hello/web/0: the node is lost\n" in result.err


def test_of_one_allocation_trouble_is_the_answer(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, []).on(f"GET {ALLOCATIONS}/0a", alloc("0a", tasks=[SERVER]))

    result = moor("logs", "0a")

    assert (result.code, result.err) == (7, "moor: logs of hello/web/0: the node is lost\n")


def test_following_a_job_takes_up_allocations_that_come_later(moor: Moor, api: FakeApi, streams: Streams) -> None:
    first, second = alloc("0a", tasks=[SERVER]), alloc("0b", tasks=[SERVER], name="hello/web/1")
    api.on_list(ALLOCATIONS, [first])
    events = [RESET, put(first), SYNCED, put(first), put(second)]
    api.on(f"WATCH {ALLOCATIONS}", Lines(events, ends=True), problem(403, "forbidden", "Not any more."))
    streams.written = {("0a", "server"): [(1, b"one\n")], ("0b", "server"): [(1, b"two\n")]}

    result = moor("logs", "-f", "hello")

    assert sorted(result.out.splitlines()) == ["hello/web/0 | one", "hello/web/1 | two"]
    assert (result.code, result.err) == (6, "moor: not any more\n")


def test_following_goes_on_with_the_container_of_a_restart_and_says_nothing_twice(
    moor: Moor, api: FakeApi, streams: Streams
) -> None:
    def run(container: str, state: str) -> AllocationView:
        return alloc("0a", tasks=[TaskView(name="server", state=state, container=container)])

    api.on_list(ALLOCATIONS, [run("c1", "running")])
    events = [RESET, put(run("c1", "running")), SYNCED, put(run("c1", "backoff")), put(run("c2", "running"))]
    api.on(f"WATCH {ALLOCATIONS}", Lines(events, ends=True), problem(403, "forbidden", "Not any more."))
    streams.written = {("0a", "server"): [(1, b"started\n")]}

    result = moor("logs", "-f", "hello", "--tail", "5")

    assert result.out.splitlines() == ["hello/web/0 | started"] * 2
    assert [asked["tail"] for asked in streams.asked] == [5, -1]


def test_following_one_allocation_ends_with_it(moor: Moor, api: FakeApi, streams: Streams) -> None:
    going = alloc("0a", tasks=[SERVER])
    api.on_list(ALLOCATIONS, []).on(f"GET {ALLOCATIONS}/0a", going)
    api.on_watch(ALLOCATIONS, RESET, put(going), SYNCED, put(alloc("0a", tasks=[SERVER], phase="failed")))
    streams.written = {("0a", "server"): [(1, b"bye\n")]}

    result = moor("logs", "-f", "0a")

    assert (result.code, result.out) == (0, "bye\n")


def test_following_a_job_ends_with_it(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, [alloc("0a", tasks=[SERVER])])
    api.on_watch(ALLOCATIONS, RESET, put(alloc("0a", tasks=[SERVER])), SYNCED, gone("0a"))
    streams.written = {("0a", "server"): [(1, b"bye\n")]}

    assert moor("logs", "-f", "hello").out == "hello/web/0 | bye\n"


@pytest.mark.parametrize("words", [("hello/web",), ("job", "hello"), ("alloc", "hello/web/0"), ("alloc/0a",), ("0a",)])
def test_every_way_to_say_whose_logs(moor: Moor, api: FakeApi, streams: Streams, words: tuple[str, ...]) -> None:
    mine, other = alloc("0a", tasks=[SERVER]), alloc("0b", tasks=[SERVER], group="db", name="hello/db/0")
    api.on(f"GET {ALLOCATIONS}/0a", mine)
    api.on_list(ALLOCATIONS, [] if words == ("0a",) else [mine, other])
    streams.written = {("0a", "server"): [(1, b"mine\n")], ("0b", "server"): [(1, b"other\n")]}

    out = moor("logs", *words).out

    assert "mine" in out
    assert ("other" in out) == (words == ("job", "hello"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nodes", "h1"), 2, "nodes write no logs"),
        (("hello", "web", "0"), 2, "one job or allocation is meant"),
        (("hello/wbe",), 4, "did you mean web?"),
        (("alloc", "zzz"), 4, "there is no allocation 'zzz'"),
    ],
)
def test_logs_of_what_has_none(moor: Moor, api: FakeApi, words: tuple[str, ...], code: int, says: str) -> None:
    api.on_list(ALLOCATIONS, [alloc("0a", tasks=[SERVER])])

    result = moor("logs", *words)

    assert (result.code, says in result.err) == (code, True), result.err


def test_a_task_that_is_not_there_gets_a_suggestion(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, [alloc("0a", tasks=[SERVER, SIDE])])

    result = moor("logs", "hello", "--task", "sever")

    assert (result.code, "did you mean server?" in result.err) == (4, True)


def test_a_job_without_allocations_and_one_that_does_not_exist(moor: Moor, api: FakeApi, streams: Streams) -> None:
    api.on_list(ALLOCATIONS, []).on(f"GET {JOBS}/hello", job())

    waiting = moor("logs", "hello")
    assert (waiting.code, "moor explain hello" in waiting.err) == (4, True)
    assert moor("logs", "nope").code == 4
    # "cafe" may be a job as well as the beginning of an id: the job goes first.
    api.on(f"GET {JOBS}/cafe", job("cafe"))
    assert "job cafe has no allocations yet" in moor("logs", "cafe").err
