"""moor explain"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import completing, kinds, output
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, target_of
from moorage.cli.output import Format
from moorage.client import Client

if TYPE_CHECKING:
    from moorage.model.view import ExplainView, NodeVerdictView, SlotExplainView
from moorage.cli.options import ContextOption, FormatOption, ProjectOption

app = application()


@app.command(epilog=EPILOG)
def explain(
    ctx: typer.Context,
    job: Annotated[list[str], typer.Argument(metavar="JOB", autocompletion=completing.job)],
    nodes: Annotated[bool, typer.Option("--nodes", help="What each node says, for instances that run, too.")] = False,
    format: FormatOption = Format.table,
    project: ProjectOption = None,
    context: ContextOption = None,
) -> None:
    """Tell why each instance of a job is where it is, or what it waits for and what each node says to that."""

    name = kinds.job_name(job)

    async def work(client: Client) -> None:
        view = await client.explain_job(name)
        if format.for_people:
            show(view, nodes)
        else:
            output.print_data(view.model_dump(mode="json"), format)

    call(ctx, target_of(ctx, context, project), work)


def show(view: ExplainView, nodes: bool) -> None:
    if not view.slots:
        output.say(f"job {view.job} wants no instances")
        return
    rows = [[f"{slot.group}/{slot.index}", slot.state, slot.node_name or "", slot.reason] for slot in view.slots]
    output.print_table(["INSTANCE", "STATE", "NODE", "WHY"], rows, whole=True)
    told: list[list[NodeVerdictView]] = []
    for slot in view.slots:
        # Instances of one group hear the same from the nodes: once is enough.
        if slot.nodes and slot.nodes not in told and (nodes or slot.node_name is None):
            told.append(slot.nodes)
            _show_nodes(slot)


def _show_nodes(slot: SlotExplainView) -> None:
    output.say()
    output.say(f"{slot.group}/{slot.index}:")
    rows = [
        [one.node_name, "yes" if one.fits else "no", "" if one.score is None else str(one.score), one.reason]
        for one in slot.nodes
    ]
    output.print_table(["NODE", "FITS", "SCORE", "WHY"], rows, whole=True)
