"""`./dev` as somebody types it."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.lab import main as dev
from tests.lab import steps, trial
from tests.lab.alone import alone


@pytest.mark.parametrize(
    "words", [["down", "now"], ["status", "-v"], ["up", "--hosts", "9"], ["up", "--hosts", "x"], ["up", "now"]]
)
def test_arguments_that_are_not_understood_are_refused_and_nothing_is_done(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for act in ("up", "down", "status"):
        monkeypatch.setattr(trial, act, lambda *_: pytest.fail("something was done"))

    with pytest.raises(SystemExit) as ended:
        dev.main(words)

    assert ended.value.code == 2
    assert f"./dev {words[0]}" in capsys.readouterr().err


def test_a_failure_is_one_sentence_and_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("port 7070 is taken by another program")

    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "down", fail)
    assert dev.main(["down"]) == 1
    assert capsys.readouterr().err == "dev: port 7070 is taken by another program\n"
    monkeypatch.setattr(trial, "down", interrupt)
    assert dev.main(["down"]) == 130
    assert "`./dev down` again goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80])
def test_a_step_fits_into_one_line_of_the_terminal_or_it_could_not_be_written_over(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: type("Size", (), {"columns": columns}))
    monkeypatch.setenv("NO_COLOR", "1")

    line = steps._line("…", "Docker engine of h1, with an image of a rather long name: " + "x" * 60, 1234.5)

    assert len(line) < columns
    assert line.endswith("1234.5 s")


def test_a_lab_that_somebody_uses_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"test-{os.getpid()}"
    with alone(name), pytest.raises(TimeoutError, match="still used by another process"), alone(name, patience_s=0.1):
        pass
    assert "waiting for it" in capsys.readouterr().out
    with alone(name, patience_s=0):
        pass


def test_a_failed_step_is_marked_and_its_error_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="odd"), steps.Steps().step("try"):
        raise ValueError("odd")

    assert capsys.readouterr().out.startswith("  ✗ try")
