"""Tokens: what the store keeps of them, and whose they are."""

from __future__ import annotations

import pytest

from controller.api.tokens import Peer, authenticate, issue
from controller.store.memory import MemoryStore
from moorage.wire import keys
from tests.unit.api.world import world


async def test_a_token_is_known_by_its_text_and_says_who_and_what() -> None:
    async with world() as w:
        assert authenticate(w.cache, w.admin) == Peer("alice", "admin")
        assert authenticate(w.cache, w.shop) == Peer("bob", "project", "shop")
        assert authenticate(w.cache, w.agent) == Peer("host-1", "agent")


async def test_the_secret_is_not_in_the_store() -> None:
    store = MemoryStore()
    text = await issue(store, "admin", "alice")
    secret = text.rpartition("_")[2]
    (stored,) = (await store.list(keys.TOKENS)).items
    assert secret.encode() not in stored.value
    assert bytes.fromhex(secret) not in stored.value


@pytest.mark.parametrize(
    "wrong", ["", "moor", "moor__", "moor_x_y", "other_{id}_{secret}", "moor_{id}_", "moor_{id}_{secret}0"]
)
async def test_nothing_but_the_very_text_is_accepted(wrong: str) -> None:
    async with world() as w:
        _, token_id, secret = w.admin.split("_")
        assert authenticate(w.cache, wrong.format(id=token_id, secret=secret)) is None


async def test_one_tokens_secret_does_not_open_another() -> None:
    async with world() as w:
        mixed = "_".join(("moor", w.admin.split("_")[1], w.shop.split("_")[2]))
        assert authenticate(w.cache, mixed) is None


@pytest.mark.parametrize(("role", "project"), [("project", ""), ("admin", "shop"), ("king", "")])
async def test_a_token_that_makes_no_sense_is_not_issued(role: str, project: str) -> None:
    with pytest.raises(ValueError, match=r"(role|project)"):
        await issue(MemoryStore(), role, "alice", project)  # type: ignore[arg-type]
