"""What the engine's listing means for one task."""

from __future__ import annotations

from agent.adopt import judge
from agent.drivers.protocol import Observed
from agent.state import Presence, Run
from tests.unit.agent.build import NOW, ended, handle, observed

STARTED = Run(0, handle().engine_id, NOW - 5000)


def look(*found: Observed, run: Run | None = None, rebooted: bool = False):  # type: ignore[no-untyped-def]
    return judge(found, run, rebooted=rebooted, now_ms=NOW)


def test_what_runs_is_adopted() -> None:
    finding = look(observed(), run=STARTED)
    assert (finding.presence, finding.run, finding.handle) == (Presence.RUNNING, STARTED, handle())


def test_a_start_that_was_not_noted_is_adopted() -> None:
    finding = look(observed(), run=None)
    assert (finding.presence, finding.run) == (Presence.RUNNING, STARTED)


def test_a_restart_that_was_announced_and_not_done_is_done() -> None:
    announced = Run(1, restarts=(NOW - 10,), total=1)
    finding = look(observed(0, running=False, exit=ended()), run=announced)
    assert (finding.presence, finding.run, finding.leftovers) == (Presence.ABSENT, announced, (handle(run=0),))


def test_a_restart_that_was_done_and_not_noted_is_adopted() -> None:
    announced = Run(1, restarts=(NOW - 10,), total=1)
    finding = look(observed(1), run=announced)
    assert finding.presence is Presence.RUNNING
    assert finding.run == Run(1, handle(run=1).engine_id, NOW - 5000, (NOW - 10,), 1)


def test_a_run_that_the_journal_never_heard_of_is_adopted() -> None:
    finding = look(observed(4), run=Run(2, "x", NOW, (NOW - 10,), 2))
    assert finding.presence is Presence.RUNNING
    assert finding.run is not None and (finding.run.number, finding.run.total) == (4, 2)


def test_an_older_run_beside_the_newest_is_removed() -> None:
    finding = look(observed(0), observed(1), run=Run(1, handle(run=1).engine_id, NOW))
    assert (finding.handle, finding.leftovers) == (handle(run=1), (handle(run=0),))


def test_an_end_that_happened_meanwhile_is_learnt() -> None:
    finding = look(observed(running=False, exit=ended(3)), run=STARTED)
    assert finding.presence is Presence.ENDED
    assert finding.run is not None and finding.run.exit == ended(3)


def test_a_container_that_was_made_and_not_started_is_started_or_else_removed() -> None:
    finding = look(observed(running=False), run=None)
    assert (finding.presence, finding.handle) == (Presence.ABSENT, handle())


def test_what_someone_else_removed_has_ended() -> None:
    finding = look(run=STARTED)
    assert finding.presence is Presence.ENDED
    assert finding.run is not None and finding.run.exit is not None and "removed" in finding.run.exit.message


def test_what_was_never_started_is_absent() -> None:
    assert look(run=None).presence is Presence.ABSENT
    assert look(run=Run(1, total=1)).presence is Presence.ABSENT


def test_the_end_of_the_machine_is_not_the_tasks_failure() -> None:
    killed = look(observed(running=False, exit=ended(137)), run=STARTED, rebooted=True)
    assert (killed.presence, killed.run, killed.leftovers) == (Presence.ABSENT, Run(1), (handle(),))
    assert look(run=STARTED, rebooted=True).run == Run(1)


def test_what_had_ended_before_the_reboot_stays_ended() -> None:
    before = Run(0, handle().engine_id, NOW, exit=ended(2))
    finding = look(observed(running=False, exit=ended(2)), run=before, rebooted=True)
    assert (finding.presence, finding.run) == (Presence.ENDED, before)


def test_what_runs_after_a_reboot_all_the_same_is_adopted() -> None:
    assert look(observed(), run=STARTED, rebooted=True).presence is Presence.RUNNING
