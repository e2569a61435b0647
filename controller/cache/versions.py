"""Job versions and the group specs compiled from them, read often and never changing: small caches of the latest used.

A decoded version is tens of kilobytes and a compiled group some hundred bytes, so few of the first and many of the
second are kept. What agents get is the encoded bytes, made once for each (job, version, group).
"""

from __future__ import annotations

from functools import lru_cache

import structlog

from controller.cache import metrics
from controller.cache.table import RawTable
from controller.store.protocol import KeyValue
from moorage.model import JobVersion, SpecError, decode_version
from moorage.wire import keys
from moorage.wire.compile import compile_group
from moorage.wire.spec_pb2 import GroupSpec

log = structlog.get_logger()


class Versions:
    def __init__(self, table: RawTable, *, versions: int = 64, groups: int = 2048) -> None:
        self._table = table
        self._unreadable: dict[str, tuple[int, str]] = {}  # key: revision, why
        self._decoded = lru_cache(versions)(self._decode)
        self._compiled = lru_cache(groups)(self._compile)

    def version(self, uid: str, number: int) -> JobVersion | None:
        try:
            return self._decoded(uid, number)
        except LookupError:
            return None

    def group_spec(self, uid: str, number: int, group: str) -> GroupSpec | None:
        encoded = self.group_spec_bytes(uid, number, group)
        return GroupSpec.FromString(encoded) if encoded is not None else None

    def group_spec_bytes(self, uid: str, number: int, group: str) -> bytes | None:
        try:
            return self._compiled(uid, number, group)
        except LookupError:
            return None

    def _decode(self, uid: str, number: int) -> JobVersion:
        """Raises LookupError, which the caches above do not keep: the version may come yet."""
        kv = self._table.get(keys.job_version(uid, number))
        if kv is None or self._unreadable.get(kv.key, (0, ""))[0] == kv.revision:
            raise LookupError
        try:
            version = decode_version(kv.value)
            for group in version.spec.groups:
                compile_group(version, group)
        except Exception as error:
            self._note(kv, error)
            raise LookupError from error
        return version

    def _note(self, kv: KeyValue, error: Exception) -> None:
        """A version that only a later release understands, or nobody: one job's trouble, not the controller's."""
        why = "; ".join(map(str, error.errors)) if isinstance(error, SpecError) else repr(error)
        self._unreadable[kv.key] = kv.revision, why
        metrics.UNREADABLE.inc()
        log.error("a stored version cannot be read", key=kv.key, error=why)

    def why_unreadable(self, uid: str, number: int) -> str:
        kv = self._table.get(keys.job_version(uid, number))
        revision, why = self._unreadable.get(keys.job_version(uid, number), (0, ""))
        return why if kv is not None and kv.revision == revision else ""

    def _compile(self, uid: str, number: int, group: str) -> bytes:
        version = self._decoded(uid, number)
        if group not in version.spec.groups:
            raise LookupError
        return compile_group(version, group).SerializeToString(deterministic=True)
