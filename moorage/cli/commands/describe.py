"""moor describe"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from moorage.cli import completing, exits, kinds, output, text
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.kinds import Filter, Kind
from moorage.cli.text import age, now_ms, plain
from moorage.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moorage.model.view import AllocationView, EventView, JobView, NodeView, TaskView
from moorage.cli.options import ContextOption, ProjectOption

app = application()


@app.command(epilog=EPILOG)
def describe(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", autocompletion=completing.kind, help="job, allocation or node; or job/NAME."),
    ],
    name: Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=completing.name)] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Tell all about one job, allocation or node, for people. `moor get -o yaml` is for programs."""
    what, one = kinds.split(kind, name)
    if one is None:
        raise exits.usage(f"which {what.name}?", f"`moor get {what.aliases[0]}` lists them")

    async def work(client: Client) -> None:
        if what is kinds.JOB:
            job = await client.get_job(one)
            show_job(job, await client.list_allocations(job=one))
        elif what is kinds.NODE:
            node = await client.get_node(one)
            show_node(node, await client.list_events(object=f"node/{node.name}"))
        else:
            show_allocation(await kinds.one(client, what, one, Filter()))

    call(ctx, target_of(ctx, context, project), work)


def show_job(job: JobView, allocs: list[AllocationView]) -> None:
    now = now_ms()
    output.print_fields(
        {
            "Job": job.name,
            "Project": job.project,
            "Phase": job.status.phase,
            "Message": job.status.message,
            "Version": f"{job.version} ({age(job.changed_ms, now)} ago)",
            "Changed by": job.principal,
            "Created": f"{age(job.created_ms, now)} ago",
            "Labels": text.pairs(job.spec.get("labels", {})),
        }
    )
    for group in job.status.groups:
        _heading(f"Group {group.name}")
        output.say(
            f"  wanted {group.wanted}, placed {group.placed}, running {group.running}, healthy {group.healthy}, "
            f"up to date {group.updated}, failed attempts {group.failed}"
        )
        for task, spec in job.spec.get("groups", {}).get(group.name, {}).get("tasks", {}).items():
            output.say(f"  task {task}: {_image(spec)}, {_resources(spec)}")
        for waiting in group.waiting:
            output.say(f"  {group.name}/{waiting.index} waits: {plain(waiting.reason)}")
        for troubled in group.troubled:
            output.say(f"  {group.name}/{troubled.index} is not healthy: {plain(troubled.reason)}")
    _table("Allocations", kinds.ALLOCATION, allocs, now)
    _events(job.status.events, now)


def show_allocation(alloc: AllocationView) -> None:
    now = now_ms()
    output.print_fields(
        {
            "Allocation": alloc.id,
            "Name": f"{alloc.name} (attempt {alloc.attempt})",
            "Project": alloc.project,
            "Node": alloc.node_name,
            "Why there": alloc.why,
            "Phase": alloc.phase,
            "Health": alloc.health,
            "Message": alloc.message,
            "Wanted": f"stop: {alloc.stop_reason}" if alloc.desired == "stop" else "run",
            "Job version": str(alloc.version),
            "Ports": text.pairs(alloc.ports),
            "Created": f"{age(alloc.created_ms, now)} ago",
        }
    )
    if alloc.tasks:
        _heading("Tasks")
        titles = ["NAME", "STATE", "HEALTH", "RESTARTS", "EXIT", "STARTED", "CONTAINER", "MESSAGE"]
        output.print_table(titles, [_task(task, now) for task in alloc.tasks], whole=True)


def show_node(node: NodeView, events: Sequence[EventView]) -> None:
    now = now_ms()
    output.print_fields(
        {
            "Node": node.name,
            "Id": node.id,
            "State": kinds.node_state(node),
            "Message": node.message,
            "Lost": f"{age(node.lost_since_ms, now)} ago" if node.lost_since_ms else "",
            "Allocations": str(node.allocations),
            "Drivers": ", ".join(node.drivers),
            "Agent": node.agent_version,
            "Labels": text.pairs(node.labels),
        }
    )
    _heading("Resources")
    sums = {"capacity": node.capacity, "reserved": node.allocated, "in use": node.usage}
    rows = [
        [name, text.cores(one.cpu_millis), text.size(one.memory_bytes), text.size(one.disk_bytes)]
        for name, one in sums.items()
        if one is not None
    ]
    output.print_table(["", "CPU", "MEMORY", "DISK"], rows)
    _pairs("Attributes", node.attributes)
    _pairs("Missing on this host", node.missing)
    if node.orphans:
        _heading("Orphans (unknown to the store; they end when their grace is over)")
        for orphan in node.orphans:
            left = max(orphan.expires_ms - now, 0) // 1000
            output.say(f"  {orphan.allocation}  {orphan.job}/{orphan.group}/{orphan.index}, {left} s left")
    _events(events, now)


def _image(task: dict[str, dict[str, str]]) -> str:
    return task.get("container", {}).get("image", "no container")


def _resources(task: dict[str, dict[str, str]]) -> str:
    resources = task.get("resources", {})
    return f"cpu {resources.get('cpu', '?')}, memory {resources.get('memory', '?')}"


def _task(task: TaskView, now: int) -> list[str]:
    code = "" if task.exit_code is None else f"{task.exit_code}{' (out of memory)' if task.oom_killed else ''}"
    health = "" if task.health == "unknown" else task.health
    started = age(task.started_ms, now)
    return [task.name, task.state, health, str(task.restarts), code, started, task.container[:12], task.message]


def _heading(words: str) -> None:
    output.say()
    output.say(f"{words}:")


def _pairs(heading: str, values: dict[str, str]) -> None:
    if values:
        _heading(heading)
        output.print_table(["NAME", "VALUE"], [[name, value] for name, value in sorted(values.items())])


def _table(heading: str, kind: Kind, views: Sequence[Any], now: int) -> None:
    if views:
        _heading(heading)
        output.print_table(kind.titles(False), [kind.row(view, now, False) for view in views], whole=True)


def _events(events: Sequence[EventView], now: int) -> None:
    _table("Events", kinds.EVENT, sorted(events, key=lambda event: event.at_ms), now)
