"""moor apply"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import changes, exits, files, output, rollout
from moorage.cli.app import EPILOG, application
from moorage.cli.connect import call, failure_of, patiently, target_of
from moorage.cli.exits import Failure
from moorage.cli.options import ContextOption, DetachOption, ProjectOption, TimeoutOption, duration
from moorage.client import ApiProblem, Client, Unreachable

if TYPE_CHECKING:
    from moorage.model import Document
    from moorage.model.view import JobView

app = application()


@app.command(epilog=EPILOG)
def apply(
    ctx: typer.Context,
    file: files.FilesOption = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="…", hidden=True)] = None,
    project: ProjectOption = None,
    context: ContextOption = None,
    detach: DetachOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would change, and change nothing.")] = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Make what the files say, and follow until all of it runs and is healthy, or has failed.

    All files are checked before anything is written. Applying the same again changes nothing.
    """
    limit_s = duration(timeout)
    documents = files.read(files.named(file, more, "apply"))
    target = target_of(ctx, context, project)
    if dry_run:
        call(ctx, target, lambda client: changes.show(client, documents))
        return

    async def work(client: Client) -> None:
        applied = [await _put(client, document) for document in documents]
        if not detach:
            await rollout.follow(client, applied, limit_s)

    try:
        call(ctx, target, work)
    except KeyboardInterrupt:
        raise Failure(rollout.GOES_ON, code=exits.INTERRUPTED) from None


async def _put(client: Client, document: Document) -> JobView:
    about = f"{document.source}:{document.line}: job {document.name}"
    try:
        applied = await patiently(lambda: client.put_job(files.spec_of(document)))
    except (ApiProblem, Unreachable) as error:
        raise failure_of(error, about) from error
    version = "" if applied.action == "unchanged" else f" (version {applied.job.version})"
    output.say(f"job {document.name} {applied.action}{version}")
    return applied.job
