"""Contexts: which controllers a person talks to, and with which token.

    current: dev
    contexts:
      dev: {url: "http://127.0.0.1:7070", token: moor_…, project: default}

The file is $MOOR_CONFIG, else contexts.yaml in $XDG_CONFIG_HOME/moorage (~/.config/moorage). It holds secrets: only
its owner can read it, and it is replaced as a whole, so that an interrupted write loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from moorage.cli import exits
from moorage.cli.exits import Failure

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Context:
    url: str
    token: str = ""
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class Contexts:
    current: str = ""
    named: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        context = self.named.get(name)
        if context is None:
            known = f"known are: {', '.join(sorted(self.named))}" if self.named else "there is none yet: `moor login`"
            raise Failure(f"there is no context {name!r}", code=exits.NOT_FOUND, hint=known)
        return context


def location(environ: Mapping[str, str] | None = None) -> Path:
    environ = os.environ if environ is None else environ
    if environ.get("MOOR_CONFIG"):
        return Path(environ["MOOR_CONFIG"])
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "moorage" / "contexts.yaml"


def load(environ: Mapping[str, str] | None = None) -> Contexts:
    """All of them; none where there is no file. Raises Failure for a file that cannot be understood."""
    path = location(environ)
    try:
        data = yaml.safe_load(path.read_text()) or {}
        named = {str(name): _context(entry) for name, entry in (data.get("contexts") or {}).items()}
        return Contexts(str(data.get("current") or ""), named)
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} cannot be read: {error}", code=exits.USAGE) from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        hint = "mend or remove it, and `moor login` again"
        raise Failure(f"{path} is not a file of contexts", code=exits.USAGE, hint=hint) from None


def save(contexts: Contexts, environ: Mapping[str, str] | None = None) -> None:
    path = location(environ)
    named = {name: {"url": one.url, "token": one.token, "project": one.project} for name, one in contexts.named.items()}
    text = yaml.safe_dump({"current": contexts.current, "contexts": named}, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(path, text)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error}", code=exits.USAGE) from None


def write(
    name: str,
    *,
    url: str,
    token: str,
    project: str = DEFAULT_PROJECT,
    make_current: bool = False,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Add or replace one; the first one becomes the current one."""
    known = load(environ)
    current = name if make_current or not known.current else known.current
    save(Contexts(current, {**known.named, name: Context(url.rstrip("/"), token, project)}), environ)


def use(name: str, environ: Mapping[str, str] | None = None) -> None:
    """Make one the current one. Raises Failure where there is none of that name."""
    known = load(environ)
    known.get(name)
    save(replace(known, current=name), environ)


def remove(name: str, environ: Mapping[str, str] | None = None) -> bool:
    """False where there was none of that name."""
    known = load(environ)
    if name not in known.named:
        return False
    rest = {other: context for other, context in known.named.items() if other != name}
    if rest:
        save(Contexts("" if known.current == name else known.current, rest), environ)
    else:
        _clear_away(location(environ))
    return True


def _clear_away(path: Path) -> None:
    """A file without contexts says nothing, and a folder that held nothing else was made for it."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _context(entry: Any) -> Context:
    return Context(str(entry["url"]), str(entry.get("token") or ""), str(entry.get("project") or DEFAULT_PROJECT))


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".contexts-")  # 0600 from the start
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
