"""What users read: the REST objects, and exactly what `-o json` prints.

The outer shape is the same for every kind: spec (what was asked), status (what is), revision (for If-Match).
Times are Unix milliseconds; bytes and millicores are plain integers.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class WaitingView(View):
    """A slot that waits, and why."""

    index: int
    reason: str
    until_ms: int | None = None


class GroupStatusView(View):
    name: str
    wanted: int
    placed: int
    running: int
    healthy: int
    updated: int
    failed: int
    waiting: list[WaitingView] = []
    troubled: list[WaitingView] = []  # placed, but not healthy, and what their nodes say


class EventView(View):
    at_ms: int
    kind: str
    message: str
    project: str = ""
    object: str = ""  # job/hello, node/h1
    allocation: str = ""
    principal: str = ""
    count: int = 1


class JobStatusView(View):
    """`phase`: pending (nothing runs yet), deploying (on its way), running (as wanted and healthy), degraded (was so,
    and is not now), deleting. `message` says why whenever it is neither running nor deploying smoothly.
    """

    phase: Literal["pending", "deploying", "running", "degraded", "deleting"]
    message: str = ""
    groups: list[GroupStatusView] = []
    events: list[EventView] = []


class JobView(View):
    kind: Literal["Job"] = "Job"
    project: str
    name: str
    uid: str
    version: int
    revision: int
    created_ms: int
    changed_ms: int
    principal: str = ""
    spec: dict[str, Any]  # the Job as it was understood, with every default filled in
    status: JobStatusView


class TaskView(View):
    name: str
    state: str
    health: str = "unknown"
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    message: str = ""
    started_ms: int = 0
    finished_ms: int = 0
    container: str = ""


class AllocationView(View):
    """`phase`: pending, preparing, running, stopping, stopped, failed, and lost where its node is lost."""

    kind: Literal["Allocation"] = "Allocation"
    id: str
    project: str
    job: str
    job_uid: str
    group: str
    index: int
    attempt: int
    name: str  # job/group/index
    node: str
    node_name: str
    version: int
    phase: Literal["pending", "preparing", "running", "stopping", "stopped", "failed", "lost"]
    health: Literal["unknown", "healthy", "unhealthy"]
    desired: Literal["run", "stop"]
    message: str = ""
    why: str = ""
    stop_reason: str = ""
    ports: dict[str, int] = {}
    tasks: list[TaskView] = []
    created_ms: int
    revision: int


class ResourcesView(View):
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int


class NodeView(View):
    """`phase`: ready, lost; `schedulable` is False while cordoned, draining or lost, and `message` says which."""

    kind: Literal["Node"] = "Node"
    id: str
    name: str
    phase: Literal["unknown", "ready", "lost"]
    schedulable: bool
    cordoned: bool
    draining: bool
    message: str = ""
    lost_since_ms: int | None = None
    capacity: ResourcesView
    allocated: ResourcesView
    usage: ResourcesView | None = None
    allocations: int
    labels: dict[str, str] = {}
    attributes: dict[str, str] = {}
    drivers: list[str] = []
    missing: dict[str, str] = {}
    agent_version: str = ""
    orphans: list[OrphanView] = []
    revision: int


class OrphanView(View):
    """Runs on a node, but the store does not know it: it goes when its grace is over, or when told to."""

    allocation: str
    project: str
    job: str
    group: str
    index: int
    attempt: int
    expires_ms: int


class ListView(View, Generic[T]):
    """A page. `revision` is where a watch goes on from; `next` is the token of the next page, if any."""

    items: list[T]
    revision: int
    next: str | None = None


class WatchEvent(View, Generic[T]):
    """A line of a `?watch=1` stream (NDJSON). After `reset` come `put`s of everything, then `synced`, then changes."""

    type: Literal["reset", "put", "delete", "synced", "bookmark"]
    object: T | None = None
    name: str = ""  # of what was deleted
    revision: int = 0


class ChangeView(View):
    """One field that differs: path as in the YAML, JSON values."""

    path: str
    old: Any = None
    new: Any = None


class PlanView(View):
    """What a PUT of the same body would do; nothing was written."""

    action: Literal["create", "update", "unchanged"]
    changes: list[ChangeView] = []
    groups: dict[str, str] = {}  # group -> "3 to place", "2 to replace (template changed)", "unchanged"
    warnings: list[str] = []  # "web: fits on no node now: …"
    revision: int | None = None


class ExplainView(View):
    """Why each slot is where it is, or what it waits for; per node, what speaks against it."""

    project: str
    job: str
    slots: list[SlotExplainView] = []


class SlotExplainView(View):
    group: str
    index: int
    allocation: str | None = None
    node_name: str | None = None
    attempt: int = 0
    state: str  # running | waiting | …
    reason: str
    nodes: list[NodeVerdictView] = []


class NodeVerdictView(View):
    node_name: str
    fits: bool
    score: int | None = None
    reason: str = ""


class JobVersionView(View):
    """One immutable version of a job's spec."""

    kind: Literal["JobVersion"] = "JobVersion"
    project: str
    job: str
    job_uid: str
    version: int
    current: bool
    created_ms: int
    principal: str = ""
    spec: dict[str, Any]


class ClusterView(View):
    """`restore_suspected` says why an old backup is suspected; until it is accepted, agents get nothing new."""

    kind: Literal["Cluster"] = "Cluster"
    id: str
    generation: int
    restore_suspected: str = ""
    leader: str = ""  # controller id
    leader_url: str = ""
    revision: int  # of the store, as this controller has seen it
    nodes: int
    nodes_ready: int
    trouble: list[str] = []  # what is wrong with the store at present, as the asked controller knows it


class VersionView(View):
    version: str
    protocol: int
    cluster_id: str
    controller_id: str
    leader: bool
    leader_url: str = ""


class Problem(View):
    """RFC 9457 problem details. `code` is permanent; `errors` point into the submitted document."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    errors: list[ProblemError] = []


class ProblemError(View):
    path: str
    message: str
    suggestion: str = ""


NodeView.model_rebuild()
ExplainView.model_rebuild()
SlotExplainView.model_rebuild()
Problem.model_rebuild()
