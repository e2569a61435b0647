"""moor get"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from moorage.cli import completing, kinds, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, follow, target_of
from moorage.cli.kinds import Filter, Kind
from moorage.cli.live import show_live
from moorage.cli.options import ContextOption, FormatOption, LabelsOption, ProjectOption
from moorage.cli.output import Format
from moorage.cli.text import now_ms
from moorage.client import Client

if TYPE_CHECKING:
    from moorage.model.view import View

app = application()


@app.command(epilog=EPILOG)
def get(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", autocompletion=completing.kind, help="jobs, allocations, nodes or events; or job/NAME."
        ),
    ],
    name: Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=completing.name)] = None,
    format: FormatOption = Format.table,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on and show changes.")] = False,
    labels: LabelsOption = None,
    job: Annotated[
        str | None, typer.Option("--job", autocompletion=completing.job, help="Only allocations of this job.")
    ] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """List things of one kind, or show one of them. `-o json` prints exactly the REST object."""
    what, one = kinds.split(kind, name)
    wanted = Filter(project=project if what is kinds.EVENT else None, labels=labels, job=job)

    async def work(client: Client) -> None:
        if one is not None and not watch:
            view = await kinds.one(client, what, one, wanted)
            _print(what, [view], view.model_dump(mode="json"), format)
        elif watch:
            await show_live(client, what, wanted, one, format)
        else:
            await _list(client, what, wanted, format)

    (follow if watch else call)(ctx, target_of(ctx, context, project), work)


async def _list(client: Client, kind: Kind, wanted: Filter, format: Format) -> None:
    views = await kinds.fetch(client, kind, wanted)
    project = "" if kind is kinds.NODE else wanted.project or ("" if kind is kinds.EVENT else client.project)
    where = f" in project {project}" if project else ""
    with_labels = f" with labels {wanted.labels}" if wanted.labels else ""
    _print(kind, views, kinds.page(views), format, where + with_labels)


def _print(kind: Kind, views: list[View], data: Any, format: Format, where: str = "") -> None:
    if not format.for_people:
        output.print_data(data, format)
    elif not views:
        output.say(f"no {kind.aliases[0]}{where}")
    else:
        now, wide = now_ms(), format is Format.wide
        output.print_table(kind.titles(wide), [kind.row(view, now, wide) for view in views])
