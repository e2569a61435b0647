"""Linters, types, and what is generated from something else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.steps import Steps

PROTOS = ("spec", "store", "session")
WITH_SERVICES = ("session",)


def check(here: Path) -> int:
    """Everything that can be said without running the program. Returns 1 if anything is amiss."""
    tool = Path(sys.executable).parent
    commands = {
        "ruff: lint": [f"{tool}/ruff", "check", "."],
        "ruff: format": [f"{tool}/ruff", "format", "--check", "."],
        "mypy: types": [f"{tool}/mypy", "."],
        "import-linter: who may import whom": [f"{tool}/lint-imports"],
    }
    steps = Steps()
    failures = [name for name, command in commands.items() if not _passes(steps, name, command, here)]
    if stale := _stale(here):
        print(f"    not generated anew: {', '.join(stale)}; run ./dev generate")
        failures.append("generated code")
    return 1 if failures else 0


def _passes(steps: Steps, name: str, command: list[str], here: Path) -> bool:
    with steps.step(name):
        result = subprocess.run(command, cwd=here, capture_output=True, text=True)
    if result.returncode:
        print(result.stdout + result.stderr)
    return result.returncode == 0


def generate(here: Path) -> int:
    """Make the protobuf modules anew, in place."""
    _protoc(here, here)
    return 0


def _stale(here: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        _protoc(here, made)
        fresh = {path.relative_to(made): path.read_bytes() for path in made.rglob("*.py*")}
    return [str(path) for path, content in sorted(fresh.items()) if (here / path).read_bytes() != content]


def _protoc(here: Path, output: Path) -> None:
    tool = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={tool}/protoc-gen-{name}" for name in ("mypy", "mypy_grpc")]
    for name in PROTOS:
        services = [f"--grpc_python_out={output}", f"--mypy_grpc_out={output}"] if name in WITH_SERVICES else []
        command = [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{here}", f"--python_out={output}", f"--mypy_out={output}",
            *services, *plugins, f"moorage/wire/{name}.proto",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=here, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"protoc {name}: {result.stderr.strip()}")
