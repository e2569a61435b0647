"""What a PUT would do, without doing it: the answer to `moor apply --dry-run` and `moor diff`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controller.cache import Cache, JobEntry
from controller.reconcile.policy import request_of
from moorage.model import Job, job_dict, template_hashes
from moorage.model.view import ChangeView, PlanView
from moorage.wire.compile import compile_resources
from moorage.wire.store_pb2 import FAILED, STOPPED
from scheduler import place


def describe_plan(cache: Cache, project: str, old: Job | None, new: Job) -> PlanView:
    """Per group what would happen, and a warning for each of which not all would find a node now."""
    entry = cache.job(project, new.name)
    changes = list(_changes(job_dict(old) if old else {}, job_dict(new)))
    action = "create" if old is None else "update" if changes else "unchanged"
    groups, warnings = _groups(cache, entry, old, new)
    return PlanView(
        action=action,
        changes=changes if old else [],
        groups=groups,
        warnings=warnings,
        revision=entry.revision if entry is not None else None,
    )


def _groups(cache: Cache, entry: JobEntry | None, old: Job | None, new: Job) -> tuple[dict[str, str], list[str]]:
    before = cache.version(entry.uid, entry.version) if entry is not None else None
    hashes = template_hashes(new, before)
    told: dict[str, str] = {}
    warnings: list[str] = []
    for name, group in new.groups.items():
        live = _live(cache, entry, name)
        kept = live[: group.count]
        replaced = sum(template != hashes[name] for template in kept)
        placed = group.count - len(kept)
        told[name] = _words(placed, replaced, len(live) - len(kept), old is not None and _same(old, new, name))
        if placed and (reason := _rejection(cache, entry, new, name, placed)):
            warnings.append(f"{name}: {reason}")
    for name in old.groups if old else ():
        if name not in new.groups:
            told[name] = f"{len(_live(cache, entry, name))} to stop (group removed)"
    return told, warnings


def _live(cache: Cache, entry: JobEntry | None, group: str) -> list[bytes]:
    """Template hashes of what runs or is to run, in order of index."""
    if entry is None:
        return []
    found = []
    for alloc in cache.allocs_of_job(entry.uid):
        status = cache.status(alloc.id)
        if alloc.group == group and not alloc.stop and (status is None or status.phase not in (FAILED, STOPPED)):
            found.append((alloc.index, alloc.template_hash))
    return [template for _, template in sorted(found)]


def _words(placed: int, replaced: int, stopped: int, same: bool) -> str:
    parts = []
    if placed:
        parts.append(f"{placed} to place")
    if replaced:
        parts.append(f"{replaced} to replace (template changed)")
    if stopped:
        parts.append(f"{stopped} to stop (scaled down)")
    return ", ".join(parts) or ("unchanged" if same else "updated in place")


def _same(old: Job, new: Job, name: str) -> bool:
    return name in old.groups and old.groups[name] == new.groups[name] and old.update_of(name) == new.update_of(name)


def _rejection(cache: Cache, entry: JobEntry | None, new: Job, name: str, count: int) -> str:
    wants = request_of(entry.uid if entry else "", new, name, compile_resources(new, name))
    [plan] = place(cache.snapshot, [replace(wants, indexes=range(count))], 0)
    if not plan.rejections:
        return ""
    fits = f"only {len(plan.placements)} of {count} fit now" if plan.placements else "fits on no node now"
    return f"{fits}: {plan.rejections[0].reason}"


def _changes(old: Any, new: Any, path: str = "") -> Iterator[ChangeView]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    else:
        yield ChangeView(path=path, old=old, new=new)
