"""A token that was revoked stays revoked, and nobody revokes what is not theirs (RFC 7009)."""

from __future__ import annotations

import asyncio
from uuid import UUID

import jwt
import pytest

from db.records import AuditAction
from gateway.oauth import endpoints
from tests.oauth.asking import Asking, error_of


async def test_a_revoked_token_is_refused(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    answer = await stored.revoke(token)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert not await stored.active(token)


async def test_revoking_again_is_harmless_and_written_once(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    for _ in range(3):
        assert (await stored.revoke(token)).status_code == 200
    [event] = await stored.running.trail(stored.admin, AuditAction.TOKEN_REVOKED)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert event.metadata == {"jti": claims["jti"], "clientId": stored.admin.client_id}


async def test_a_revocation_that_takes_too_long_is_given_up_and_undone(
    stored: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told that a token is revoked relies on when that was committed."""
    token = await stored.running.token(stored.admin)
    monkeypatch.setattr(endpoints, "OPERATION_SECONDS", 0.2)
    # The agent's row is not let go, so the revocation waits for it.
    async with stored.running.gateway.storage.unit(stored.admin.prefix) as unit:
        assert await unit.agents.get(UUID(stored.admin.client_id))
        answer = await asyncio.create_task(stored.revoke(token))
    monkeypatch.undo()
    assert error_of(answer) == (503, "temporarily_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert not await stored.running.trail(stored.admin, AuditAction.TOKEN_REVOKED)
    assert await stored.active(token)
    assert (await stored.revoke(token)).status_code == 200


async def test_only_that_token_is_revoked(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    other = await stored.running.token(stored.admin)
    await stored.revoke(token)
    assert await stored.active(other)


@pytest.mark.parametrize("garbage", ["x", "a.b.c", "é", "x" * 60_000, "' or 1=1 --"])
async def test_what_is_no_token_is_answered_like_one(asking: Asking, garbage: str) -> None:
    answer = await asking.revoke(garbage)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not await asking.running.trail(asking.admin, AuditAction.TOKEN_REVOKED)


async def test_a_token_that_has_ended_is_answered_alike(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    stored.running.clock.advance(3600)
    assert (await stored.revoke(token)).status_code == 200
    assert not await stored.running.trail(stored.admin, AuditAction.TOKEN_REVOKED)


async def test_another_tenant_s_token_is_answered_alike_and_stays_live(stored: Asking) -> None:
    other = await stored.running.onboard("globex")
    token = await stored.running.token(other)
    assert (await stored.revoke(token)).status_code == 200
    assert await stored.active(token, client=other, slug="globex")
    for tenant in (stored.admin, other):
        assert not await stored.running.trail(tenant, AuditAction.TOKEN_REVOKED)


async def test_another_client_s_token_needs_tokens_write_or_stays_live(stored: Asking) -> None:
    """Refused with an error, as RFC 7009 §2.1 has it, and not answered as if it had been done."""
    running = stored.running
    plain = await running.client_of(
        stored.admin, ["resume:read", "tokens:read"], email="plain@a.example"
    )
    writer = await running.client_of(stored.admin, ["tokens:write"], email="writer@a.example")
    token = await running.token(stored.admin)
    assert error_of(await stored.revoke(token, client=plain)) == (400, "invalid_grant")
    narrow = await running.token(stored.admin, "tokens:read")
    theirs = await running.token(writer)
    answer = await stored.revoke(theirs, authorization=f"Bearer {narrow}")
    assert error_of(answer) == (400, "invalid_grant")
    assert await stored.active(token)
    assert await stored.active(theirs)
    assert not await running.trail(stored.admin, AuditAction.TOKEN_REVOKED)

    assert (await stored.revoke(token, client=writer)).status_code == 200
    assert not await stored.active(token)
    [event] = await running.trail(stored.admin, AuditAction.TOKEN_REVOKED)
    assert str(event.agent_id) == writer.client_id
    assert event.metadata["clientId"] == stored.admin.client_id


async def test_a_client_revokes_its_own_without_any_scope(stored: Asking) -> None:
    worker = await stored.running.client_of(stored.admin, ["resume:read"])
    token = await stored.running.token(worker)
    assert (await stored.revoke(token, client=worker)).status_code == 200
    assert not await stored.active(token)


async def test_another_spelling_of_a_revoked_token_is_refused(stored: Asking) -> None:
    """ES256 has two signatures for each: (r, s) and (r, n − s). Revocation goes by the jti."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    token = await stored.running.token(stored.admin)
    head, payload, signature = token.split(".")
    raw = jwt.utils.base64url_decode(signature)
    mirrored = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    twin = ".".join([head, payload, jwt.utils.base64url_encode(mirrored).decode()])
    assert twin != token
    assert await stored.active(twin)
    assert (await stored.revoke(token)).status_code == 200
    assert not await stored.active(twin)
