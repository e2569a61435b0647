"""`./dev`: a cluster to try, the tests, the benchmarks, the checks."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab import packages, trial
from tests.lab.alone import alone
from tests.lab.checks import check, generate
from tests.lab.steps import Steps

HERE = Path(__file__).resolve().parents[2]
CALLED_FROM = Path(os.environ.get("MOOR_DEV_CALLED_FROM", HERE))
BENCHMARKS = ("deploy", "churn", "fleet")

AFTERWARDS = {"up": ", `./dev down` removes everything"}

FAST = ["tests/unit", "tests/golden", "tests/contract", "tests/integration"]
SUITES = {
    "fast": [*FAST],
    "e2e": ["tests/e2e", "-m", "not walk"],
    "walk": ["tests/e2e", "-m", "walk"],
}


def main(arguments: list[str]) -> int:
    verb, rest = arguments[0], arguments[1:]
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        print(f"\ninterrupted; `./dev {verb}` again goes on from here{AFTERWARDS.get(verb, '')}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("MOOR_DEBUG"):
            raise
        hint = (
            ""
            if isinstance(error, RuntimeError | TimeoutError)
            else f" ({type(error).__name__}; MOOR_DEBUG=1 shows where)"
        )
        print(f"dev: {error}{hint}", file=sys.stderr)
        return 1


def up(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev up")
    parser.add_argument(
        "--hosts", type=int, default=None, metavar="N", help="1: this machine itself; 2 to 5: network namespaces"
    )
    given = parser.parse_args(arguments)
    if given.hosts is not None and not 1 <= given.hosts <= 5:
        parser.error(f"--hosts takes 1 to 5, not {given.hosts}")
    steps = Steps()
    install_missing(steps, packages.FOR_A_CLUSTER)
    return one_at_a_time(lambda: trial.up(given.hosts, HERE, steps))


def one_at_a_time(act: Callable[[], int]) -> int:
    with alone(trial.LAB):
        return act()


def install_missing(steps: Steps, wanted: dict[str, str]) -> None:
    if lacking := packages.missing(wanted):
        with steps.step(f"installing {', '.join(lacking)}"):
            packages.install(lacking)


def test(arguments: list[str]) -> int:
    """Fast ones first; the lab's scenarios last. Arguments that name no suite go to pytest."""
    install_missing(Steps(), packages.FOR_TESTS)
    chosen = [*FAST, "tests/e2e"]
    if arguments and arguments[0] in SUITES:
        chosen, arguments = SUITES[arguments[0]], arguments[1:]
    elif any(not argument.startswith("-") for argument in arguments):
        chosen = []
    return subprocess.call([sys.executable, "-m", "pytest", *chosen, *arguments], cwd=HERE)


def bench(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in BENCHMARKS:
        print(f"usage: ./dev bench {{{','.join(BENCHMARKS)}}} [--json FILE]", file=sys.stderr)
        return 2
    install_missing(Steps(), packages.FOR_TESTS)
    os.chdir(CALLED_FROM)  # --json FILE is relative to where the user is
    module = importlib.import_module(f"benchmarks.{arguments[0]}")
    result: int = module.main(arguments[1:])
    return result


def by_itself(verb: str, act: Callable[[], int]) -> Callable[[list[str]], int]:
    """A verb that takes no arguments: one that is not understood must not be ignored, least of all by `down`."""

    def run(arguments: list[str]) -> int:
        argparse.ArgumentParser(prog=f"./dev {verb}").parse_args(arguments)
        return act()

    return run


VERBS: dict[str, Callable[[list[str]], int]] = {
    "up": up,
    "down": by_itself("down", lambda: one_at_a_time(lambda: trial.down(Steps()))),
    "status": by_itself("status", trial.status),
    "test": test,
    "bench": bench,
    "check": by_itself("check", lambda: check(HERE)),
    "generate": by_itself("generate", lambda: generate(HERE)),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
