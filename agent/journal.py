"""What the agent must remember over its own death: sqlite in a thread of its own, with group commit.

Intents are written before the action they announce: a caller notes rows and awaits `flush`; whatever came together
while the last transaction was on its way goes into the next, so a burst of a thousand intents costs a few commits.
What merely happened (a task started, a status was acknowledged) is noted without waiting, in order, and goes with the
next flush or after a while: the engine, or the controller, would tell it again.

WAL with synchronous=NORMAL: a commit survives the death of this process, not a loss of power. After a loss of power
no workload of ours runs, and nothing starts before the first complete set, so there is nothing that the last
milliseconds of intents could double; a sync of the disk at each start would only buy time.

A transaction that fails (a full disk) fails for those who wait on it, and its rows are kept and tried again with the
next, in order. A file that sqlite cannot read is put aside; `lost` is then true, and the agent rebuilds what it needs
from the labels of what runs.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from agent.drivers.protocol import Exit
from agent.state import Run, Stage, State
from moorage.wire.session_pb2 import Assignment
from moorage.wire.store_pb2 import AllocStatus, Phase

log = structlog.get_logger()

SCHEMA_VERSION = 1
NOTE_DELAY_S = 0.15
LEAST_ROOM = 128 * 1024
FULL = "the node's disk is full: the agent's journal cannot be written, nothing is started until there is room"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS allocs (
    alloc TEXT PRIMARY KEY, assignment BLOB NOT NULL, orphan_expires_ms INTEGER NOT NULL, stage INTEGER NOT NULL,
    ends_as INTEGER NOT NULL, message TEXT NOT NULL, running_since_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    alloc TEXT NOT NULL, task TEXT NOT NULL, number INTEGER NOT NULL, engine_id TEXT NOT NULL,
    started_ms INTEGER NOT NULL, restarts TEXT NOT NULL, total INTEGER NOT NULL, exit_code INTEGER,
    oom_killed INTEGER NOT NULL, exit_message TEXT NOT NULL, finished_ms INTEGER NOT NULL,
    PRIMARY KEY (alloc, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS statuses (
    alloc TEXT PRIMARY KEY, serial INTEGER NOT NULL, status BLOB NOT NULL, sent INTEGER NOT NULL);
"""
_PUT_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_PUT_ALLOC = (
    "INSERT INTO allocs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (alloc) DO UPDATE SET"
    " assignment = excluded.assignment, orphan_expires_ms = excluded.orphan_expires_ms, stage = excluded.stage,"
    " ends_as = excluded.ends_as, message = excluded.message, running_since_ms = excluded.running_since_ms"
)
_PUT_STATE = "UPDATE allocs SET stage = ?, ends_as = ?, message = ?, running_since_ms = ? WHERE alloc = ?"
_PUT_RUN = "REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_STATUS = "REPLACE INTO statuses VALUES (?, ?, ?, 0)"
_SENT = "UPDATE statuses SET sent = 1 WHERE alloc = ? AND serial <= ?"
_FORGET = (
    "DELETE FROM allocs WHERE alloc = ?",
    "DELETE FROM runs WHERE alloc = ?",
    "DELETE FROM statuses WHERE alloc = ?",
)

# What says nothing against the file: to put it aside would forget what it holds.
_OF_THE_NODE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
)

Statement = tuple[str, tuple[object, ...]]


class JournalError(Exception):
    """The journal cannot be written; the message is for users."""


class JournalFull(JournalError):
    """For want of room alone."""


@dataclass(slots=True)
class Row:
    """One allocation as it is remembered. `orphan_expires_ms` is 0 for what the controller knows of."""

    assignment: Assignment
    state: State = field(default_factory=State)
    orphan_expires_ms: int = 0


@dataclass(slots=True)
class Memory:
    """All that the journal held when it was opened."""

    meta: dict[str, bytes]
    rows: list[Row]
    statuses: list[tuple[AllocStatus, bool]]  # newest of each allocation, and whether it was acknowledged


class Journal:
    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Blocks; to be called before the event loop has anything to do."""
        self.lost = not path.exists()
        try:
            self._db, self.memory = _open(path)
        except (sqlite3.DatabaseError, DecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or _no_room(path.parent)):
                raise JournalFull(FULL) from error
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_NODE:
                raise JournalError(f"the agent's journal {path} cannot be opened: {error}") from error
            log.error("journal unreadable, put aside; rebuilding from what runs", path=str(path), error=str(error))
            _put_aside(path)
            self.lost = True
            self._db, self.memory = _open(path)
        self._noted: list[Statement] = []
        self._handover: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[tuple[list[Statement], asyncio.Future[None] | None] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def put_meta(self, key: str, value: bytes) -> None:
        self._note((_PUT_META, (key, value)))

    def put_row(self, row: Row) -> None:
        """The allocation itself; its runs have rows of their own."""
        state = row.state
        values = (row.assignment.alloc, row.assignment.SerializeToString(), row.orphan_expires_ms, int(state.stage))
        self._note((_PUT_ALLOC, (*values, int(state.ends_as), state.message, state.running_since_ms)))

    def put_state(self, row: Row) -> None:
        """What has become of an allocation whose row is there."""
        state = row.state
        values = (int(state.stage), int(state.ends_as), state.message, state.running_since_ms)
        self._note((_PUT_STATE, (*values, row.assignment.alloc)))

    def put_run(self, alloc: str, task: str, run: Run) -> None:
        end = run.exit
        ended = (None, 0, "", 0) if end is None else (end.code, int(end.oom_killed), end.message, end.finished_ms)
        restarts = ",".join(map(str, run.restarts))
        values = (alloc, task, run.number, run.engine_id, run.started_ms, restarts, run.total)
        self._note((_PUT_RUN, (*values, *ended)))

    def put_status(self, status: AllocStatus) -> None:
        self._note((_PUT_STATUS, (status.alloc, status.serial, status.SerializeToString())))

    def sent(self, acknowledged: Iterable[tuple[str, int]]) -> None:
        for pair in acknowledged:
            self._note((_SENT, pair))

    def forget(self, alloc: str) -> None:
        for statement in _FORGET:
            self._note((statement, (alloc,)))

    async def flush(self) -> None:
        """Returns once all that was noted before is committed. Raises JournalError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hand_over(future)
        await future

    async def close(self) -> None:
        try:
            await self.flush()
        finally:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _note(self, statement: Statement) -> None:
        self._noted.append(statement)
        if self._handover is None:
            self._handover = asyncio.get_running_loop().call_later(NOTE_DELAY_S, self._hand_over, None)

    def _hand_over(self, waiter: asyncio.Future[None] | None) -> None:
        if self._handover is not None:
            self._handover.cancel()
            self._handover = None
        self._queue.put((self._noted, waiter))
        self._noted = []

    def _write(self) -> None:
        """The thread: one transaction for all that has come together."""
        unwritten: list[Statement] = []
        while (item := self._queue.get()) is not None:
            waiters: list[asyncio.Future[None]] = []
            closing = False
            while item is not None:
                unwritten += item[0]
                waiters += [item[1]] if item[1] is not None else []
                try:
                    item = self._queue.get_nowait()
                    closing = item is None
                except queue.Empty:
                    break
            error = self._commit(unwritten)
            if error is None:
                unwritten = []
            _resolve(waiters, error)
            if closing:
                break
        self._db.close()

    def _commit(self, statements: list[Statement]) -> JournalError | None:
        if not statements:
            return None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            log.error("journal not written", error=str(error), statements=len(statements))
            return JournalError(_explain(error))
        return None


def _resolve(waiters: list[asyncio.Future[None]], error: JournalError | None) -> None:
    if not waiters:
        return

    def settle() -> None:
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    loop = waiters[0].get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _open(path: Path) -> tuple[sqlite3.Connection, Memory]:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -512")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JournalError(f"{path} was written by a newer agent (layout {version}, this one knows 1)")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return db, _load(db)
    except BaseException:
        db.close()
        raise


def _load(db: sqlite3.Connection) -> Memory:
    rows: dict[str, Row] = {}
    for alloc, assignment, expires, stage, ends_as, message, since in db.execute("SELECT * FROM allocs ORDER BY rowid"):
        state = State(Stage(stage), Phase.ValueType(ends_as), message, since)
        rows[alloc] = Row(Assignment.FromString(assignment), state, expires)
    for alloc, task, number, engine_id, started, restarts, total, code, oom, text, finished in db.execute(
        "SELECT * FROM runs"
    ):
        if alloc in rows:
            end = None if code is None else Exit(code, bool(oom), text, finished)
            times = tuple(int(at) for at in restarts.split(",") if at)
            rows[alloc].state.runs[task] = Run(number, engine_id, started, times, total, end)
    statuses = [
        (AllocStatus.FromString(raw), bool(sent)) for raw, sent in db.execute("SELECT status, sent FROM statuses")
    ]
    return Memory(dict(db.execute("SELECT key, value FROM meta")), list(rows.values()), statuses)


def _put_aside(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.replace(path.with_name(path.name + ".unreadable"))


def _no_room(folder: Path) -> bool:
    """sqlite calls it an I/O error when the index of its log finds no room: the file itself is as good as ever."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < LEAST_ROOM


def _explain(error: sqlite3.Error) -> str:
    if "full" in str(error):
        return FULL
    return f"the agent's journal cannot be written: {error}"
