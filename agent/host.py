"""What all runners of this node share."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from agent.attachments import Attachments
from agent.engine import Engine
from agent.journal import Journal
from agent.launch import Identity
from agent.outbox import Outbox
from moorage.kit.clock import Clock
from moorage.kit.tasks import Owner


@dataclass(slots=True)
class Host:
    """`boot` names this boot of the machine; `rebooted`: the last complete set was taken in under another one, and
    what ran then has ended with it."""

    identity: Identity
    engine: Engine
    attachments: Attachments
    journal: Journal
    outbox: Outbox
    clock: Clock
    rng: random.Random
    boot: str = ""
    rebooted: bool = False
    owner: Owner = field(default_factory=lambda: Owner("agent"))
