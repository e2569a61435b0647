"""Which agent this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("moorage")
    except PackageNotFoundError:
        return "0.0.0+source"


VERSION = _installed()
