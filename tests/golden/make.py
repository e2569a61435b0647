"""Writes the stored objects of a release, once: `python -m tests.golden.make 0.1`. What is there is never rewritten."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf import text_format

from moorage.model import canonical_json, encode_version
from tests.golden import objects


def make(directory: Path) -> None:
    directory.mkdir()
    made = objects.version()
    (directory / "job.json").write_bytes(canonical_json(made.spec))
    (directory / "jobver.json").write_bytes(encode_version(made))
    (directory / "keys.json").write_text(json.dumps(objects.layout(), indent=1) + "\n")
    for name, message in objects.messages().items():
        (directory / f"{name}.bin").write_bytes(message.SerializeToString(deterministic=True))
        (directory / f"{name}.textproto").write_text(text_format.MessageToString(message))
    for group, spec in objects.group_specs().items():
        (directory / f"group_{group}.bin").write_bytes(spec.SerializeToString(deterministic=True))
        (directory / f"group_{group}.textproto").write_text(text_format.MessageToString(spec))


if __name__ == "__main__":
    make(Path(__file__).parent / sys.argv[1])
