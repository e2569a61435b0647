"""The agent as a process, against a controller that says what a test wants it to say.

What ran is asked from the engine's record. The fake engine replaces Docker and the kernel; session, journal, runners
and everything else are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.wire.session_pb2 import Assignment, ControllerMessage, Delta, Position, Refused
from moorage.wire.spec_pb2 import Disconnect, ExecProbe, HealthCheck
from moorage.wire.store_pb2 import FAILED, HEALTHY, RUNNING, STOPPED
from tests.integration.agent_world import (
    AgentProcess,
    ScriptedController,
    assignment,
    group,
    restart_policy,
    stopped,
    until,
)


@pytest.fixture
async def controller() -> AsyncIterator[ScriptedController]:
    controller = ScriptedController()
    await controller.start()
    yield controller
    await controller.stop()


@pytest.fixture
async def agent(tmp_path: Path, controller: ScriptedController) -> AsyncIterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "n1", controller)
    await agent.start()
    yield agent
    await agent.kill()


def name(alloc: str, task: str = "task0", run: int = 0) -> str:
    return f"moor-{alloc}-{task}-{run}"


async def running(controller: ScriptedController, *allocs: str) -> None:
    def all_run() -> bool:
        found = [controller.statuses.get(alloc) for alloc in allocs]
        return all(s is not None and s.phase == RUNNING and s.health == HEALTHY for s in found)

    await until(all_run, f"{len(allocs)} allocations running and healthy")


async def test_an_assignment_runs_and_costs_one_status(controller: ScriptedController, agent: AgentProcess) -> None:
    await until(lambda: controller.connected, "a session")
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    assert agent.witness.running() == {name(told.alloc)}
    assert [status.phase for status in controller.history] == [RUNNING]


async def test_a_stop_that_is_said_ends_all_tasks(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0, spec=group(("sleep", "100000"), ("sleep", "100000")))
    controller.assign(told)
    await running(controller, told.alloc)
    controller.assign(stopped(told))
    await until(lambda: controller.ended(told.alloc), "stopped")
    assert controller.statuses[told.alloc].phase == STOPPED
    assert controller.statuses[told.alloc].message == "scaled down"
    assert agent.witness.running() == set()


async def test_a_stop_for_something_unknown_is_answered(controller: ScriptedController, agent: AgentProcess) -> None:
    controller.assign(stopped(assignment(7)))
    await until(lambda: controller.ended(assignment(7).alloc), "stopped")
    assert agent.witness.running() == set()


async def test_one_task_of_a_group_restarts_alone(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0, spec=group(("sleep", "100000"), ("sleep", "0.3")))
    controller.assign(told)
    await until(lambda: name(told.alloc, "task1", 2) in agent.witness.starts, "restarts")
    assert name(told.alloc, "task0", 0) in agent.witness.running()
    assert name(told.alloc, "task0", 1) not in agent.witness.starts


async def test_restarts_used_up_fail_the_allocation(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0, spec=group(("false",), restart=restart_policy(attempts=2)))
    controller.assign(told)
    await until(lambda: controller.ended(told.alloc), "failed")
    status = controller.statuses[told.alloc]
    assert status.phase == FAILED
    assert status.message == "task0 exited with code 1; restarted 2 times within 600 s"
    assert agent.witness.running() == set() and len(agent.witness.starts) == 3


async def test_logs_come_over_a_stream_of_their_own(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0, spec=group(("sh", "-c", "echo hello $MOOR_JOB; sleep 100000")))
    controller.assign(told)
    await running(controller, told.alloc)
    frames = await controller.logs(told.alloc)
    assert b"".join(frame.data for frame in frames) == b"hello shop\n"
    frames = await controller.logs(told.alloc, "nothing")
    assert frames[-1].error == "no task 'nothing' in it; there are: task0"


async def test_an_unhealthy_task_is_restarted(controller: ScriptedController, agent: AgentProcess) -> None:
    spec = group(("sleep", "100000"))
    spec.tasks[0].health.CopyFrom(
        HealthCheck(exec=ExecProbe(command=["false"]), interval_ms=100, timeout_ms=500, failures=2)
    )
    told = assignment(0, spec=spec)
    controller.assign(told)
    await until(lambda: len(agent.witness.starts) >= 2, "a restart")
    reasons = [task.message for status in controller.history for task in status.tasks]
    assert "unhealthy: false exited with code 1" in reasons


async def test_kill_9_neither_kills_nor_doubles(controller: ScriptedController, agent: AgentProcess) -> None:
    told = [assignment(index) for index in range(5)]
    controller.assign(*told)
    await running(controller, *(a.alloc for a in told))
    before = agent.witness.running()
    pid = agent.pid
    await agent.restart()
    assert agent.pid != pid
    sessions = len(controller.hellos)
    await until(lambda: len(controller.hellos) > sessions and controller.done == controller.revision, "a new session")
    assert agent.witness.running() == before
    assert len(agent.witness.starts) == 5


@pytest.mark.parametrize("seed", range(20))
async def test_kill_9_at_random_points_never_doubles_or_loses(
    seed: int, controller: ScriptedController, agent: AgentProcess
) -> None:
    rng = random.Random(seed)
    told = [assignment(index, spec=group(("sleep", "100000"), ("sleep", "100000"))) for index in range(12)]
    await until(lambda: controller.connected, "a session")
    for batch in (told[:4], told[4:8], told[8:]):
        controller.assign(*batch)
        await asyncio.sleep(rng.random() * 0.06)
    await agent.restart()
    replaced = [stopped(each, "updated") for each in told[:4]]
    following = [assignment(index, attempt=2) for index in range(4)]
    await asyncio.sleep(rng.random() * 1.5)
    controller.assign(*replaced, *following)
    await asyncio.sleep(rng.random() * 0.06)
    await agent.restart()
    wanted = [*told[4:], *following]
    await running(controller, *(each.alloc for each in wanted))
    expected = {name(each.alloc, task.name).rpartition("-")[0] for each in wanted for task in each.spec.tasks}
    await until(lambda: {n.rpartition("-")[0] for n in agent.witness.running()} == expected, "what is wanted")
    assert agent.witness.doubles == []


async def test_an_older_set_is_refused_and_stops_nothing(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.assignments.clear()
    controller.position = lambda p: Position(generation=p.generation, epoch=p.epoch, revision=50, term="old")
    await agent.restart()
    await until(lambda: len(controller.refusals) >= 3, "refusals")
    assert {refusal.code for refusal in controller.refusals} == {"old_revision"}
    assert agent.witness.running() == {name(told.alloc)}
    assert controller.orphans == []


async def test_after_an_accepted_restore_the_old_revision_is_taken(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.generation, controller.revision = 2, 10
    await agent.restart()
    await until(lambda: controller.done == 10, "the set of the new generation")
    assert controller.refusals == []
    assert agent.witness.running() == {name(told.alloc)}


async def test_another_cluster_is_refused(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.cluster_id = "cluster-2"
    controller.assignments.clear()
    await agent.restart()
    await until(lambda: controller.refusals, "a refusal")
    assert controller.refusals[0].code == "wrong_cluster"
    assert agent.witness.running() == {name(told.alloc)}


async def test_a_change_before_the_complete_set_is_ignored(controller: ScriptedController, tmp_path: Path) -> None:
    early = assignment(0)
    controller.before_set = [ControllerMessage(delta=Delta(position=controller.now(), changed=[early]))]
    agent = AgentProcess(tmp_path / "n1", controller)
    await agent.start()
    try:
        await until(lambda: controller.done, "the complete set")
        controller.assign(assignment(1))
        await running(controller, assignment(1).alloc)
        assert agent.witness.starts == [name(assignment(1).alloc)]
    finally:
        await agent.kill()


async def test_what_a_set_does_not_mention_waits_for_its_grace(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    lost, kept = assignment(0), assignment(1)
    controller.assign(lost, kept)
    await running(controller, lost.alloc, kept.alloc)
    del controller.assignments[lost.alloc]
    await agent.restart()
    await until(lambda: controller.orphans, "an orphan report")
    assert [orphan.alloc for orphan in controller.orphans] == [lost.alloc]
    expires = controller.orphans[0].expires_ms
    assert name(lost.alloc) in agent.witness.running()
    controller.orphans = []
    await agent.restart()  # the grace goes on, it does not begin again
    await until(lambda: controller.orphans, "an orphan report")
    assert controller.orphans[0].expires_ms == expires
    assert name(lost.alloc) in agent.witness.running()
    await agent.kill()
    agent.rewrite_journal("UPDATE allocs SET orphan_expires_ms = 1 WHERE orphan_expires_ms > 0")  # a minute later
    await agent.start()
    await until(lambda: agent.witness.running() == {name(kept.alloc)}, "the orphan ended")


async def test_an_orphan_that_is_mentioned_again_goes_on(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.assignments.clear()
    await agent.restart()
    await until(lambda: controller.orphans, "an orphan report")
    controller.assign(told)
    await until(lambda: controller.orphans == [], "no orphan any more")
    assert agent.witness.running() == {name(told.alloc)}
    assert agent.witness.starts == [name(told.alloc)]


async def test_an_operator_ends_an_orphan_at_once(controller: ScriptedController, agent: AgentProcess) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.assignments.clear()
    await agent.restart()
    await until(lambda: controller.orphans, "an orphan report")
    controller.drop(told.alloc)
    await until(lambda: agent.witness.running() == set(), "the orphan ended")


async def test_a_newer_attempt_waits_for_the_end_of_the_older(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    old, new = _stubborn(0), assignment(0, attempt=2)
    controller.assign(old)
    await running(controller, old.alloc)
    controller.assign(new)
    await running(controller, new.alloc)
    assert agent.witness.running() == {name(new.alloc)}
    assert agent.witness.doubles == []
    assert controller.statuses[old.alloc].message == "superseded by attempt 2"


async def test_without_the_guard_a_slot_is_doubled(controller: ScriptedController, tmp_path: Path) -> None:
    """What shows that the test above can fail: the same, in a build whose guard says yes to everything."""
    patch = "import agent.guards\nagent.guards.may_start = lambda attempt, known_attempts: True"
    agent = AgentProcess(tmp_path / "n1", controller, patch=patch)
    await agent.start()
    try:
        old, new = _stubborn(0), assignment(0, attempt=2)
        controller.assign(old)
        await running(controller, old.alloc)
        controller.assign(new)
        await running(controller, new.alloc)
        assert agent.witness.doubles == [f"{name(new.alloc)} beside {name(old.alloc)}"]
    finally:
        await agent.kill()


async def test_an_older_attempt_is_never_started(controller: ScriptedController, agent: AgentProcess) -> None:
    old, new = assignment(0), assignment(0, attempt=2)
    controller.assign(new)
    await running(controller, new.alloc)
    controller.assign(old)
    await until(lambda: controller.ended(old.alloc), "the older one turned down")
    assert agent.witness.starts == [name(new.alloc)]


async def test_without_a_controller_crashed_tasks_are_restarted_after_a_restart_of_the_agent(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    told = assignment(0, spec=group(restart=restart_policy(delay_ms=10)))
    controller.assign(told)
    await running(controller, told.alloc)
    await agent.kill()
    await controller.stop()
    with agent.witness.path.open("a") as record:
        record.write(f'{{"end": "{name(told.alloc)}", "code": 1, "oom": false, "at": 1}}\n')
    await agent.start()
    await until(lambda: agent.witness.running() == {name(told.alloc, run=1)}, "a restart without a controller")


async def test_after_a_reboot_nothing_starts_before_the_first_set(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    told, gone = assignment(0), assignment(1)
    controller.assign(told, gone)
    await running(controller, told.alloc, gone.alloc)
    await agent.kill()
    await controller.stop()
    agent.reboot()
    await agent.start()
    await until(lambda: agent.log().count('"agent started"') == 2, "the agent's start")
    await asyncio.sleep(1.0)
    assert agent.witness.running() == set()
    controller.assignments[gone.alloc] = stopped(gone)
    controller.revision += 1
    await controller.start()
    await until(lambda: agent.witness.running() == {name(told.alloc, run=1)}, "a start after the set")
    await running(controller, told.alloc)
    assert controller.statuses[told.alloc].tasks[0].restarts == 0


@pytest.mark.parametrize("damage", ["removed", "garbage"])
async def test_a_lost_journal_is_rebuilt_from_what_runs(
    damage: str, controller: ScriptedController, agent: AgentProcess
) -> None:
    told, orphan = assignment(0), assignment(1)
    controller.assign(told, orphan)
    await running(controller, told.alloc, orphan.alloc)
    await agent.kill()
    for file in agent.journal.parent.glob("journal.db-*"):
        file.unlink()
    if damage == "removed":
        agent.journal.unlink()
    else:
        agent.journal.write_bytes(b"not a database" * 1000)
    del controller.assignments[orphan.alloc]
    controller.revision += 1
    await agent.start()
    await until(lambda: controller.orphans, "an orphan report")
    assert [each.alloc for each in controller.orphans] == [orphan.alloc]
    assert agent.witness.running() == {name(told.alloc), name(orphan.alloc)}
    controller.assign(stopped(told))
    await until(lambda: agent.witness.running() == {name(orphan.alloc)}, "the known one stopped")
    assert len(agent.witness.starts) == 2


async def test_cut_off_for_too_long_it_stops_what_asks_for_that(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    careful = group()
    careful.disconnect.CopyFrom(Disconnect(stop_on_node_after_ms=500))
    told, other = assignment(0, spec=careful), assignment(1)
    controller.assign(told, other)
    await running(controller, told.alloc, other.alloc)
    await controller.stop()
    await until(lambda: agent.witness.running() == {name(other.alloc)}, "the careful one stopped")
    await controller.start()
    await until(lambda: controller.ended(told.alloc), "its end told")
    assert controller.statuses[told.alloc].message == "no controller was heard for 0.5 s"


async def test_a_controller_that_suspects_a_restore_was_heard_and_its_silence_after_that_counts(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    careful = group()
    careful.disconnect.CopyFrom(Disconnect(stop_on_node_after_ms=1500))
    told = assignment(0, spec=careful)
    controller.assign(told)
    await running(controller, told.alloc)
    controller.refuse = Refused(code="restore_suspected", reason="an old backup")
    await controller.stop()
    await controller.start()
    await asyncio.sleep(2.5)
    assert agent.witness.running() == {name(told.alloc)}
    await controller.stop()
    await until(lambda: agent.witness.running() == set(), "the careful one stopped")


async def test_a_controller_that_falls_silent_is_left(controller: ScriptedController, agent: AgentProcess) -> None:
    controller.lost_after_ms = 400
    await agent.restart()
    await until(lambda: controller.connected, "a session")
    await asyncio.sleep(1.0)
    sessions = len(controller.hellos)
    assert controller.connected == 1  # a quiet one is not a silent one
    controller.mute = True
    await until(lambda: len(controller.hellos) > sessions, "another try")
    controller.mute = False
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)


async def test_what_the_store_has_taken_note_of_is_forgotten(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    told = assignment(0, spec=group(("false",), restart=restart_policy(attempts=0)))
    controller.assign(told)
    await until(lambda: controller.ended(told.alloc), "failed")
    assert (await controller.logs(told.alloc))[-1].error == ""
    controller.change([], forgotten=[told.alloc])
    await until(lambda: '"remove"' in agent.witness.path.read_text(), "its container removed")
    assert (await controller.logs(told.alloc))[-1].error.endswith("is not on this node any more")


async def test_a_second_agent_on_the_same_data_is_refused(controller: ScriptedController, agent: AgentProcess) -> None:
    await until(lambda: controller.connected, "a session")
    second = AgentProcess(agent.folder, controller)
    await second.start()
    await until(lambda: "another agent runs with the data directory" in agent.log(), "a refusal")
    assert await second.ended() == 1
    assert controller.connected == 1


async def test_the_end_is_orderly_and_workloads_keep_running(
    controller: ScriptedController, agent: AgentProcess
) -> None:
    told = assignment(0)
    controller.assign(told)
    await running(controller, told.alloc)
    assert await agent.kill(signal.SIGTERM) == 0
    assert agent.witness.running() == {name(told.alloc)}


def _stubborn(index: int) -> Assignment:
    """One whose task ignores its signal, and so takes its time to end."""
    return assignment(index, spec=group(("sh", "-c", "trap '' TERM; sleep 100000")))
