"""The kinds that `get`, `describe`, `delete` and `wait` know: their names, columns, and where they come from."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moorage.cli import exits, text
from moorage.cli.exits import Failure

if TYPE_CHECKING:
    from moorage.client import Client, Listed
    from moorage.model.view import AllocationView, EventView, GroupStatusView, JobView, NodeView, WatchEvent

Cell = Callable[[Any, int], str]  # (view, now in Unix milliseconds)
Columns = tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a kind is wanted. A project of None is all that the token may see, where a kind allows that."""

    project: str | None = None
    labels: str | None = None
    job: str | None = None
    object: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    aliases: tuple[str, ...]
    key: Callable[[Any], str]  # as deletions in a watch name it
    columns: Columns
    wide: Columns  # further ones

    def titles(self, wide: bool) -> list[str]:
        return [title for title, _ in self._shown(wide)]

    def row(self, view: Any, now: int, wide: bool) -> list[str]:
        return [cell(view, now) for _, cell in self._shown(wide)]

    def _shown(self, wide: bool) -> Columns:
        """What may be long stays last."""
        return (*self.columns[:-1], *self.wide, self.columns[-1]) if wide else self.columns


def counts(group: GroupStatusView) -> str:
    return f"{group.healthy}/{group.wanted}"


def restarts(alloc: AllocationView) -> str:
    return str(sum(task.restarts for task in alloc.tasks))


def _healthy(job: JobView) -> str:
    return ",".join(counts(group) for group in job.status.groups)


def _alloc_message(alloc: AllocationView) -> str:
    if alloc.message:
        return alloc.message
    if alloc.desired == "stop":
        return alloc.stop_reason
    return next((f"{task.name}: {task.message}" for task in alloc.tasks if task.message), "")


def _share(used: int, whole: int, words: Callable[[int], str]) -> str:
    return f"{words(used)}/{words(whole)}"


def node_state(node: NodeView) -> str:
    if node.phase != "ready":
        return node.phase
    return "draining" if node.draining else "cordoned" if node.cordoned else "ready"


JOB = Kind(
    "job",
    ("jobs", "j"),
    lambda job: job.name,
    columns=(
        ("NAME", lambda job, now: job.name),
        ("PHASE", lambda job, now: job.status.phase),
        ("HEALTHY", lambda job, now: _healthy(job)),
        ("VERSION", lambda job, now: str(job.version)),
        ("AGE", lambda job, now: text.age(job.created_ms, now)),
        ("MESSAGE", lambda job, now: job.status.message),
    ),
    wide=(
        ("CHANGED", lambda job, now: text.age(job.changed_ms, now)),
        ("BY", lambda job, now: job.principal),
        ("GROUPS", lambda job, now: ",".join(group.name for group in job.status.groups)),
        ("UID", lambda job, now: job.uid),
    ),
)
ALLOCATION = Kind(
    "allocation",
    ("allocations", "alloc", "allocs", "a"),
    lambda alloc: alloc.id,
    columns=(
        ("ID", lambda alloc, now: alloc.id),
        ("NAME", lambda alloc, now: alloc.name),
        ("NODE", lambda alloc, now: alloc.node_name),
        ("PHASE", lambda alloc, now: alloc.phase),
        ("HEALTH", lambda alloc, now: "" if alloc.health == "unknown" else alloc.health),
        ("RESTARTS", lambda alloc, now: restarts(alloc)),
        ("PORTS", lambda alloc, now: text.pairs(alloc.ports)),
        ("AGE", lambda alloc, now: text.age(alloc.created_ms, now)),
        ("MESSAGE", lambda alloc, now: _alloc_message(alloc)),
    ),
    wide=(
        ("ATTEMPT", lambda alloc, now: str(alloc.attempt)),
        ("VERSION", lambda alloc, now: str(alloc.version)),
        ("WHY THERE", lambda alloc, now: alloc.why),
    ),
)
NODE = Kind(
    "node",
    ("nodes", "n"),
    lambda node: node.id,
    columns=(
        ("NAME", lambda node, now: node.name),
        ("STATE", lambda node, now: node_state(node)),
        ("ALLOCATIONS", lambda node, now: str(node.allocations)),
        ("CPU", lambda node, now: _share(node.allocated.cpu_millis, node.capacity.cpu_millis, text.cores)),
        ("MEMORY", lambda node, now: _share(node.allocated.memory_bytes, node.capacity.memory_bytes, text.size)),
        ("LOST", lambda node, now: text.age(node.lost_since_ms or 0, now)),
        ("MESSAGE", lambda node, now: "" if node.message == node_state(node) else node.message),
    ),
    wide=(
        ("DISK", lambda node, now: _share(node.allocated.disk_bytes, node.capacity.disk_bytes, text.size)),
        ("DRIVERS", lambda node, now: ",".join(node.drivers)),
        ("LABELS", lambda node, now: text.pairs(node.labels)),
        ("AGENT", lambda node, now: node.agent_version),
        ("ORPHANS", lambda node, now: str(len(node.orphans) or "")),
        ("ID", lambda node, now: node.id),
    ),
)
EVENT = Kind(
    "event",
    ("events", "ev", "e"),
    lambda event: f"{event.at_ms}/{event.object}/{event.allocation}/{event.kind}/{event.message}",
    columns=(
        ("AGE", lambda event, now: text.age(event.at_ms, now)),
        ("OBJECT", lambda event, now: event.object),
        ("KIND", lambda event, now: event.kind),
        ("TIMES", lambda event, now: str(event.count) if event.count > 1 else ""),
        ("MESSAGE", lambda event, now: event.message),
    ),
    wide=(
        ("PROJECT", lambda event, now: event.project),
        ("ALLOCATION", lambda event, now: event.allocation),
        ("BY", lambda event, now: event.principal),
    ),
)
_ID = re.compile(r"[0-9a-f]{1,16}")  # the beginning of one will do
KINDS = (JOB, ALLOCATION, NODE, EVENT)
_BY_WORD = {word: kind for kind in KINDS for word in (kind.name, *kind.aliases)}


def kind_of(word: str) -> Kind:
    """Raises Failure with a suggestion."""
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        known = [kind.aliases[0] for kind in KINDS]
        hint = text.guess(word, known, f"known are: {', '.join(known)}; a job of that name is job/{word}")
        raise exits.usage(f"there is no kind {word!r}", hint)
    return kind


def is_kind(word: str) -> bool:
    return word.lower() in _BY_WORD


def split(word: str, name: str | None) -> tuple[Kind, str | None]:
    """`job/hello` and `job hello` are the same."""
    before, slash, after = word.partition("/")
    if not slash:
        return kind_of(word), name
    if name is not None:
        raise exits.usage(f"{word!r} has the name already: {name!r} is too much")
    return kind_of(before), after


def job_name(words: Sequence[str]) -> str:
    """`hello`, `job/hello` and `job hello` are the same."""
    first, *rest = words
    if len(rest) == 1 and _BY_WORD.get(first.lower()) is JOB:
        return rest[0]
    if rest:
        raise exits.usage(f"one job is meant, not {len(words)}: {' '.join(words)}")
    kind, slash, name = first.partition("/")
    return name if slash and _BY_WORD.get(kind.lower()) is JOB else first


async def fetch(client: Client, kind: Kind, wanted: Filter) -> Listed[Any]:
    if kind is JOB:
        return await client.list_jobs(project=wanted.project, labels=wanted.labels)
    if kind is ALLOCATION:
        return await client.list_allocations(project=wanted.project, job=wanted.job, labels=wanted.labels)
    if kind is NODE:
        return await client.list_nodes(labels=wanted.labels)
    events = await client.list_events(project=wanted.project, object=wanted.object)
    events.sort(key=_at)
    return events


def watch(client: Client, kind: Kind, wanted: Filter) -> AsyncGenerator[WatchEvent[Any], None]:
    if kind is JOB:
        return client.watch_jobs(project=wanted.project, labels=wanted.labels)
    if kind is ALLOCATION:
        return client.watch_allocations(project=wanted.project, job=wanted.job, labels=wanted.labels)
    if kind is NODE:
        return client.watch_nodes(labels=wanted.labels)
    return client.watch_events(project=wanted.project, object=wanted.object)


async def one(client: Client, kind: Kind, name: str, wanted: Filter) -> Any:
    if kind is JOB:
        return await client.get_job(name, project=wanted.project)
    if kind is ALLOCATION:
        return await client.get_allocation(await allocation_id(client, name, wanted.project), project=wanted.project)
    if kind is NODE:
        return await client.get_node(name)
    raise exits.usage("events have no names", "`moor events --object job/NAME` tells those of one object")


async def allocation_id(client: Client, name: str, project: str | None = None) -> str:
    """From an id, the beginning of one, or job/group/index (its newest attempt)."""
    if _ID.fullmatch(name):
        return name
    job = name.partition("/")[0]
    found = [one for one in await client.list_allocations(project=project, job=job) if one.name == name]
    if not found:
        hint = "`moor get allocations` lists them; one is meant by its id or as job/group/index"
        raise Failure(f"there is no allocation {name!r}", code=exits.NOT_FOUND, hint=hint)
    return max(found, key=lambda alloc: alloc.attempt).id


def _at(event: EventView) -> int:
    return event.at_ms


def page(views: Listed[Any]) -> dict[str, Any]:
    """As the REST list; all pages in one."""
    return {
        "items": [view.model_dump(mode="json") for view in views],
        "revision": views.revision,
        "next": None,
    }
