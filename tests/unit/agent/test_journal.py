"""What is remembered over the agent's own death."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent import main
from agent.journal import Journal, JournalError, JournalFull, Memory, Row
from agent.state import Run, Stage, State
from moorage.kit.clock import ManualClock
from moorage.wire.store_pb2 import FAILED, RUNNING, STOPPED, AllocStatus
from tests.unit.agent.build import NOW, assignment, ended


async def recall(path: Path) -> Memory:
    """What another process would find."""
    journal = Journal(path)
    await journal.close()
    return journal.memory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def test_everything_comes_back(path: Path) -> None:
    journal = Journal(path)
    row = Row(assignment(), State(Stage.LIVE, STOPPED, "why", NOW), NOW + 5)
    run = Run(2, "engine-id", NOW, (NOW - 2, NOW - 1), 7, ended(137, oom_killed=True, message="killed"))
    alloc = row.assignment.alloc
    journal.put_row(row)
    journal.put_run(alloc, "server", run)
    journal.put_meta("seen", b"position")
    journal.put_status(AllocStatus(alloc=alloc, serial=5, phase=RUNNING))
    await journal.close()
    memory = await recall(path)
    row.state.runs["server"] = run
    assert memory.rows == [row]
    assert memory.meta == {"seen": b"position"}
    assert memory.statuses == [(AllocStatus(alloc=alloc, serial=5, phase=RUNNING), False)]


async def test_an_acknowledged_status_is_not_sent_again_and_a_newer_one_is(path: Path) -> None:
    journal = Journal(path)
    journal.put_status(AllocStatus(alloc="a", serial=5))
    journal.put_status(AllocStatus(alloc="b", serial=5))
    journal.put_status(AllocStatus(alloc="b", serial=6))
    journal.sent([("a", 5), ("b", 5)])
    await journal.close()
    assert {status.alloc: sent for status, sent in (await recall(path)).statuses} == {"a": True, "b": False}


async def test_what_is_forgotten_is_gone(path: Path) -> None:
    journal = Journal(path)
    row = Row(assignment())
    journal.put_row(row)
    journal.put_run(row.assignment.alloc, "server", Run())
    journal.put_status(AllocStatus(alloc=row.assignment.alloc))
    journal.forget(row.assignment.alloc)
    await journal.close()
    memory = await recall(path)
    assert (memory.rows, memory.statuses) == ([], [])


async def test_a_change_of_state_leaves_the_assignment(path: Path) -> None:
    journal = Journal(path)
    row = Row(assignment())
    journal.put_row(row)
    row.state.stage, row.state.ends_as, row.state.message = Stage.ENDED, FAILED, "why"
    journal.put_state(row)
    await journal.close()
    assert (await recall(path)).rows == [row]


async def test_a_flush_means_that_another_process_could_read_it(path: Path) -> None:
    journal = Journal(path)
    journal.put_row(Row(assignment()))
    await journal.flush()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM allocs").fetchone() == (1,)
    other.close()
    await journal.close()


async def test_many_intents_share_few_commits(path: Path) -> None:
    journal = Journal(path)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    journal._db.set_trace_callback(count)

    async def intent(index: int) -> None:
        journal.put_row(Row(assignment(index)))
        await journal.flush()

    await asyncio.gather(*(intent(index) for index in range(500)))
    await journal.close()
    assert len((await recall(path)).rows) == 500
    assert commits < 50


async def test_a_note_is_written_without_being_waited_for(path: Path) -> None:
    journal = Journal(path)
    journal.put_row(Row(assignment()))
    await asyncio.sleep(0.2)
    assert len((await recall(path)).rows) == 1
    await journal.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
async def test_an_unreadable_file_is_put_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)  # noqa: ASYNC240
    journal = Journal(path)
    assert journal.memory.rows == []
    assert journal.lost is bool(content)
    journal.put_row(Row(assignment()))
    await journal.close()
    assert len((await recall(path)).rows) == 1


async def test_a_file_with_a_row_that_nobody_can_read_is_put_aside(path: Path) -> None:
    journal = Journal(path)
    journal.put_row(Row(assignment()))
    await journal.close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE allocs SET assignment = x'ffffffff'")
    other.close()
    journal = Journal(path)
    assert journal.lost and journal.memory.rows == []
    await journal.close()


def test_a_file_that_cannot_be_opened_is_left_as_it_is(path: Path) -> None:
    path.mkdir()
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(path)
    assert path.is_dir()


async def test_a_full_disk_fails_those_who_wait_and_loses_nothing(path: Path) -> None:
    journal = Journal(path)
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    for index in range(200):
        journal.put_row(Row(assignment(index)))
    with pytest.raises(JournalError, match="the node's disk is full"):
        await journal.flush()
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.put_meta("after", b"x")
    await journal.flush()
    await journal.close()
    memory = await recall(path)
    assert len(memory.rows) == 200 and memory.meta == {"after": b"x"}


def test_a_newer_layout_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(JournalError, match="written by a newer agent"):
        Journal(path)


async def test_an_agent_that_starts_on_a_full_disk_waits_for_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, full = ManualClock(), True

    def open_journal(where: Path) -> Journal:
        if full:
            raise JournalFull("the node's disk is full")
        return Journal(where)

    monkeypatch.setattr(main, "Journal", open_journal)
    opening = asyncio.ensure_future(main._journal(path, clock))
    await clock.advance(20)
    assert not opening.done()
    full = False
    await clock.advance(main.JOURNAL_RETRY_S)
    await (await opening).close()


async def test_a_file_that_cannot_be_read_for_want_of_room_is_not_put_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path)
    journal.put_row(Row(assignment()))
    await journal.close()

    def no_room(_: Path) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr("agent.journal._open", no_room)
        patched.setattr("agent.journal._no_room", lambda _: True)
        with pytest.raises(JournalFull, match="the node's disk is full"):
            Journal(path)
    assert len((await recall(path)).rows) == 1
