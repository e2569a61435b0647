"""Files that users write: YAML with any number of documents, each of a kind.

Everything that is wrong in a file is reported at once, with its line, as one SpecError.
"""

from __future__ import annotations

from dataclasses import dataclass

from moorage.model import unsupported
from moorage.model.errors import FieldError, SpecError
from moorage.model.job import Job
from moorage.model.suggest import did_you_mean
from moorage.model.validation import parse_job
from moorage.model.yamlreader import read_trees
from moorage.model.yamltree import Node, Tree, YamlError


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file, valid and with every default filled in."""

    kind: str
    name: str
    model: Job
    source: str
    line: int


def load_documents(text: str | bytes, source: str = "<stdin>") -> list[Document]:
    """All documents of a file, at least one. Raises SpecError; then nothing of the file counts."""
    errors: list[FieldError] = []
    documents: list[Document] = []
    try:
        for tree in read_trees(_decoded(text), source):
            if tree.root.text is not None and tree.root.value is None:
                continue  # an empty document, as between two lines of ---
            _load(tree, source, documents, errors)
    except YamlError as error:
        errors.append(FieldError("", error.message, error.suggestion, error.line, source))
    if not documents and not errors:
        errors.append(FieldError("", "holds no document", "begin with kind: Job", None, source))
    errors += _twice(documents)
    if errors:
        raise SpecError(errors)
    return documents


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise YamlError("is not a text file in UTF-8", line) from None


def _load(tree: Tree, source: str, documents: list[Document], errors: list[FieldError]) -> None:
    found = list(tree.errors)
    kind_error = _kind_error(tree.root, source)
    if kind_error is not None:
        errors += [*found, kind_error]
        return
    try:
        job = parse_job(tree.root.plain(), tree=tree.root, source=source)
    except SpecError as error:
        known = {(e.path, e.line) for e in found}
        found += [e for e in error.errors if (e.path, e.line) not in known]
    else:
        if not found:
            documents.append(Document("Job", job.name, job, source, tree.root.line))
    errors += sorted(found, key=lambda e: e.line or 0)


def _kind_error(root: Node, source: str) -> FieldError | None:
    if root.entries is None:
        what = "a list" if root.items is not None else "a single value"
        return FieldError("", f"must be a mapping with kind: and name:, is {what}", "", root.line, source)
    if "kind" not in root.entries:
        return FieldError("kind", "is missing", "begin with kind: Job", root.line, source)
    line, node = root.entries["kind"]
    if node.value == "Job":
        return None
    if isinstance(node.value, str) and node.value in unsupported.KINDS:
        return FieldError("kind", f"{node.value} is not yet supported", "supported: Job", line, source)
    word = str(node.value) if node.text is not None else "this"
    guess = did_you_mean(word.capitalize(), ("Job", *unsupported.KINDS))
    return FieldError("kind", f"{word[:60]} is not a kind of object, like Job", guess, line, source)


def _twice(documents: list[Document]) -> list[FieldError]:
    first: dict[tuple[str, str], Document] = {}
    return [
        FieldError("name", f"there is a {d.kind} {d.name} already, in line {known.line}", "", d.line, d.source)
        for d in documents
        if (known := first.setdefault((d.kind, d.name), d)) is not d
    ]
