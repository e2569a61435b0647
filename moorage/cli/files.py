"""What `-f` names: a file, a folder of them, or standard input; read and checked as a whole before anything is done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moorage.cli import exits
from moorage.cli.exits import Failure

if TYPE_CHECKING:
    from moorage.model import Document

FilesOption = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE|DIR|-", help="YAML with any number of documents; may be repeated."),
]
SUFFIXES = (".yaml", ".yml", ".json")
MOST_BYTES = 16 << 20


def named(files: list[str] | None, more: list[str] | None, verb: str) -> list[str]:
    """What follows `-f`. Raises Failure that says how files are given."""
    if more or not files:
        example = " ".join(f"-f {name}" for name in more or ["FILE"])
        raise exits.usage("files are given with -f", f"`moor {verb} {example}`; a folder or - (standard input) will do")
    return files


def read(names: list[str]) -> list[Document]:
    """All documents of all files. Raises Failure that lists everything wrong in them, as file:line: path: what."""
    from moorage.model import SpecError, load_documents

    documents: list[Document] = []
    faults: list[str] = []
    for source, text in [found for name in names for found in _texts(name)]:
        try:
            documents += load_documents(text, source)
        except SpecError as error:
            faults += [str(one) for one in error.errors]
    faults += _twice(documents)
    if faults:
        sys.stderr.writelines(f"{fault}\n" for fault in faults)
        raise Failure("nothing was done: the files need mending", code=exits.INVALID)
    return documents


def spec_of(document: Document) -> dict[str, Any]:
    """What the author wrote and no more: defaults are filled in where the job is stored."""
    return document.model.model_dump(mode="json", exclude_unset=True)


def _texts(name: str) -> list[tuple[str, bytes]]:
    if name == "-":
        return [("<stdin>", sys.stdin.buffer.read(MOST_BYTES + 1))]
    path = Path(name)
    try:
        if path.is_dir():
            return [(str(file), _bytes(file)) for file in _inside(path)]
        return [(name, _bytes(path))]
    except OSError as error:
        raise Failure(f"{name}: {(error.strerror or str(error)).lower()}", code=exits.USAGE) from None


def _inside(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise Failure(f"{folder}: no YAML files in it", code=exits.USAGE)
    return files


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _twice(documents: list[Document]) -> list[str]:
    first: dict[tuple[str, str], Document] = {}
    return [
        f"{one.source}:{one.line}: name: there is a {one.kind} {one.name} already, in {known.source}:{known.line}"
        for one in documents
        if (known := first.setdefault((one.kind, one.name), one)) is not one and known.source != one.source
    ]
