"""The job: what users write. The whole language is in everything.yaml of the design; here is what is built of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moorage.model.base import Base
from moorage.model.constraints import Affinities, Affinity, Constraint, Constraints
from moorage.model.fields import LabelKey, LabelValue, Name
from moorage.model.group import Group
from moorage.model.policies import Disruption, Update

MAX_GROUPS = 100


class Job(Base):
    """Groups of containers that are kept running."""

    version: Literal["v1"] = "v1"
    """Of the language."""
    kind: Literal["Job"] = "Job"
    """Of the document."""
    name: Name
    """Unique in its project: a DNS label."""
    type: Literal["service"] = "service"
    """service: kept running until it is deleted."""
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Who comes first: 0 to 100."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """To select by in lists; they change nothing that runs."""
    constraints: Constraints = ()
    """All must hold, for all groups."""
    affinity: Affinities = ()
    """For all groups."""
    update: Update = Update()
    disruption: Disruption = Disruption()
    groups: Annotated[dict[Name, Group], Field(min_length=1, max_length=MAX_GROUPS)]
    """Name -> what is placed together, and how often."""

    def constraints_of(self, group: str) -> tuple[Constraint, ...]:
        return self.constraints + self.groups[group].constraints

    def affinity_of(self, group: str) -> tuple[Affinity, ...]:
        return self.affinity + self.groups[group].affinity

    def update_of(self, group: str) -> Update:
        return self.groups[group].update or self.update
