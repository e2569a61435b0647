"""What earlier releases stored is read by this one, and nothing about it is found changed.

Each release adds a folder (tests/golden/make.py). A failure here means that an upgrade would restart, move or forget
what runs: mend the code, never the files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from moorage.model import canonical_json, decode_version, encode_version, read_job, template_hashes
from moorage.wire import spec_pb2 as spec
from moorage.wire import store_pb2 as store
from moorage.wire.compile import compile_group
from moorage.wire.keys import parse_alloc
from tests.golden import objects
from tests.golden.make import make

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if path.name[0].isdigit())
TYPES: dict[str, type[Message]] = {
    "cluster": store.Cluster,
    "job": store.Job,
    "request": store.Request,
    "token": store.Token,
    "node_spec": store.NodeSpec,
    "node_state": store.NodeState,
    "node_facts": store.NodeFacts,
    "alloc": store.Alloc,
    "plan": store.PlanMark,
    "job_state": store.JobState,
    "event": store.Event,
    "arrival": store.Arrival,
    "controller": store.ControllerInfo,
    "leader": store.LeaderInfo,
    "status": store.AllocStatus,
}
FROM_LATER = bytes([0xFA, 0x7F, 5]) + b"later"  # field 2047, a kind of bytes that no message here has

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)


def stored(release: Path) -> list[tuple[Path, Message]]:
    found = []
    for path in sorted(release.glob("*.bin")):
        kind = spec.GroupSpec if path.name.startswith("group_") else TYPES[path.stem]
        message = kind()
        message.ParseFromString(path.read_bytes())
        found.append((path, message))
    return found


def test_the_first_release_is_there() -> None:
    assert "0.1" in [release.name for release in RELEASES]
    assert {path.stem for path, _ in stored(RELEASES[0])} >= {*TYPES, "group_web", "group_plain"}


@each_release
def test_every_message_still_says_the_same(release: Path) -> None:
    for path, message in stored(release):
        expected = type(message)()
        text_format.Parse(path.with_suffix(".textproto").read_text(), expected)
        assert message == expected, path.name
        assert message.SerializeToString(deterministic=True) == path.read_bytes(), path.name


@each_release
def test_rewriting_an_object_of_a_later_release_keeps_what_we_do_not_know(release: Path) -> None:
    for path, known in stored(release):
        message = type(known)()
        message.ParseFromString(path.read_bytes() + FROM_LATER)
        field = next(f for f in message.DESCRIPTOR.fields if f.type == f.TYPE_STRING and not f.is_repeated)
        setattr(message, field.name, "rewritten")
        rewritten = message.SerializeToString(deterministic=True)
        assert rewritten.endswith(FROM_LATER), path.name
        assert b"rewritten" in rewritten


@each_release
def test_a_stored_version_is_read_and_written_back_unchanged(release: Path) -> None:
    data = (release / "jobver.json").read_bytes()
    version = decode_version(data)
    job = (release / "job.json").read_bytes()
    assert read_job(job) == version.spec
    if release == RELEASES[-1]:
        assert encode_version(version) == data
        assert canonical_json(version.spec) == job


@each_release
def test_applying_a_stored_job_again_restarts_nothing(release: Path) -> None:
    version = decode_version((release / "jobver.json").read_bytes())
    assert template_hashes(version.spec, version) == version.template_hashes
    if release == RELEASES[-1]:
        assert template_hashes(version.spec) == version.template_hashes


@each_release
def test_agents_get_the_same_group_as_before(release: Path) -> None:
    version = decode_version((release / "jobver.json").read_bytes())
    for group in version.spec.groups:
        expected = spec.GroupSpec()
        text_format.Parse((release / f"group_{group}.textproto").read_text(), expected)
        assert compile_group(version, group) == expected


@each_release
def test_everything_is_still_where_it_was(release: Path) -> None:
    layout = json.loads((release / "keys.json").read_text())
    assert layout.items() <= objects.layout().items()
    key = parse_alloc(layout["alloc"])
    assert (key.key, key.id) == (layout["alloc"], layout["alloc_id"])


def test_an_allocation_stays_small() -> None:
    for release in RELEASES:
        assert len((release / "alloc.bin").read_bytes()) < 400


def test_a_release_is_written_once(tmp_path: Path) -> None:
    make(tmp_path / "0.0")
    assert (tmp_path / "0.0" / "jobver.json").exists()
    with pytest.raises(FileExistsError):
        make(tmp_path / "0.0")
