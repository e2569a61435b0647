"""The scenarios are worth something: builds in which a safeguard is switched off do not pass them.

A mutant is a `sitecustomize` that the lab's processes import before anything else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import test_faults, test_guards
from tests.e2e.user import User
from tests.lab.cluster import QUICK, Cluster

pytestmark = pytest.mark.e2e

MUTANTS = Path(__file__).parent / "mutants"
REPOSITORY = Path(__file__).parents[2]
CAUGHT_BY = {
    "fencing": (
        test_guards.test_a_leader_that_slept_through_its_lease_writes_nothing_when_it_wakes,
        "by an ended leadership",
    ),
    "orphan_grace": (
        test_faults.test_a_controller_on_an_old_backup_stops_nothing_and_goes_on_after_accept_restore,
        "before the grace is over",
    ),
    "attempt_guard": (
        test_guards.test_a_new_attempt_waits_for_the_end_of_the_old_one_on_the_same_node,
        "two attempts at a time",
    ),
}


@pytest.mark.parametrize("name", sorted(CAUGHT_BY))
def test_a_build_without_a_safeguard_fails_its_scenario(name: str) -> None:
    path = f"{MUTANTS / name}:{REPOSITORY}"  # the repository, as a sitecustomize is imported before there is a folder
    lab = Cluster(f"no-{name[:6]}", 3, api_port=7770, env={**QUICK, "PYTHONPATH": path})
    lab.down()
    try:
        lab.up()
        user = User(lab)
        user.wait_for_nodes(3)
        assert not any("sitecustomize" in log.read_text() for log in lab.logs()), "the mutant did not load"
        scenario, words = CAUGHT_BY[name]
        with pytest.raises(AssertionError, match=words):
            scenario(lab, user)
    finally:
        lab.down()
