"""A valid job to spoil, and the one error that spoiling it gives."""

from __future__ import annotations

import textwrap

import pytest

from moorage.model import FieldError, Job, SpecError, load_documents

HELLO = """\
kind: Job
name: hello
groups:
  web:
    count: 3
    networks: host
    ports: {http: auto}
    tasks:
      server:
        container: {image: "busybox:1", command: [httpd, -f]}
        resources: {cpu: 250m, memory: 64Mi}
        health: {http: {port: http}}
"""


def job(text: str = HELLO) -> Job:
    return load_documents(textwrap.dedent(text))[0].model


def errors_of(text: str | bytes) -> list[FieldError]:
    with pytest.raises(SpecError) as caught:
        load_documents(text, "job.yaml")
    return caught.value.errors


def only_error(text: str | bytes) -> FieldError:
    errors = errors_of(text)
    assert len(errors) == 1, "\n".join(map(str, errors))
    return errors[0]


def spoiled(old: str, new: str) -> str:
    assert old in HELLO
    return HELLO.replace(old, new, 1)
