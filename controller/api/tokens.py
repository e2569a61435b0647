"""Tokens: `moor_{id}_{secret}`, of which the store keeps the id and the secret's SHA-256.

The secret has 256 random bits, so that a plain hash is enough: there is nothing to guess by a dictionary.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from controller.store.protocol import Absent, Put, Store
from moorage.wire import keys
from moorage.wire.store_pb2 import Token

if TYPE_CHECKING:
    from controller.cache import Cache

Role = Literal["admin", "agent", "project"]
ROLES: tuple[Role, ...] = ("admin", "agent", "project")
PREFIX = "moor"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls. `project` is set for role project only."""

    principal: str
    role: Role
    project: str = ""


async def issue(store: Store, role: Role, principal: str, project: str = "", *, created_ms: int = 0) -> str:
    """Create a token and return its text, which is not stored anywhere. Raises StoreError, ValueError."""
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}")
    if (role == "project") != bool(project):
        raise ValueError("a project goes with role project, and only with it")
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    token = Token(sha256=_hash(secret), principal=principal, role=role, project=project, created_ms=created_ms)
    key = keys.token(token_id)
    committed = await store.commit([Absent(key)], [Put(key, token.SerializeToString())])
    if not committed.ok:
        raise RuntimeError("a random token id that exists already: the source of randomness is broken")
    return f"{PREFIX}_{token_id}_{secret}"


def authenticate(cache: Cache, text: str) -> Peer | None:
    """Whose token this is; None where it is nobody's. Takes the same time whatever part of a secret is right."""
    token_id, secret = _parts(text)
    token = cache.token(token_id) if token_id else None
    expected = token.sha256 if token is not None else bytes(32)
    if not hmac.compare_digest(_hash(secret), expected) or token is None or token.role not in ROLES:
        return None
    return Peer(token.principal, token.role, token.project)


def _parts(text: str) -> tuple[str, str]:
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not token_id.isalnum() or not token_id.isascii():
        return "", ""
    return token_id, secret


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
