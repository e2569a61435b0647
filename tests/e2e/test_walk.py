"""A seeded random walk over all faults: after each the cluster comes back to exactly what is wanted."""

from __future__ import annotations

import os
import random

import pytest

from tests.e2e.faults import FAULTS, World, populate
from tests.e2e.truth import wait_exactly
from tests.e2e.user import User
from tests.e2e.watch import Witness
from tests.lab.cluster import QUICK, Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.walk]

SEEDS = [1] if os.environ.get("CI") else [1, 2, 3]
STEPS = int(os.environ.get("MOOR_WALK_STEPS", "40"))
LOST_AFTER_S = float(QUICK["MOOR_LOST_AFTER"])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_walk_over_all_faults_always_comes_back(cluster: Cluster, user: User, seed: int) -> None:
    rng = random.Random(seed)
    world = World(cluster, user, rng)
    populate(world)
    wait_exactly(cluster, world.wanted(), tasks=world.tasks)
    names = [fault for fault, _, _ in FAULTS]
    weights = [weight for _, weight, _ in FAULTS]
    unheard = {fault for fault, _, hears_not in FAULTS if hears_not}
    with Witness(cluster, settle_s=2 * LOST_AFTER_S) as witness:
        for step in range(STEPS):
            fault = rng.choices(names, weights)[0]
            # A further fault while the last one's traces are being cleared away puts that off.
            excused = fault in unheard or witness.settling()
            if excused:
                witness.excuse()
            said = fault(world)
            print(f"seed {seed} step {step + 1}: {fault.__name__}: {said}", flush=True)
            if excused:
                witness.settle()
            if rng.random() < 0.6 or step == STEPS - 1:
                wait_exactly(cluster, world.wanted(), tasks=world.tasks, timeout_s=90)
        wait_exactly(cluster, world.wanted(), tasks=world.tasks, timeout_s=90, hold_s=2 * LOST_AFTER_S)
    assert witness.looks > STEPS
    assert not witness.doubles
