"""What daemons keep in their data directories, and who may use one."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.kit.datadir import AlreadyRunning, kept_id, locked, write_whole


def test_a_data_directory_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "data", "controller"):
        with pytest.raises(AlreadyRunning, match="another controller runs with the data directory"):
            with locked(tmp_path / "data", "controller"):
                pass
    with locked(tmp_path / "data", "controller"):
        pass


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = kept_id(tmp_path / "id")
    assert len(first) == 36
    assert kept_id(tmp_path / "id") == first


def test_a_file_that_was_being_written_when_the_process_was_killed_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "id.new").write_text("")  # as far as it came
    assert len(kept_id(tmp_path / "id")) == 36


def test_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "token", "secret", 0o600)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "token").read_text() == "secret\n"
