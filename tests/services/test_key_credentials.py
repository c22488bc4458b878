"""Credentials that are keys: made of a public half, replaced by another, mixed with secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from db.errors import (
    CredentialNotActive,
    Forbidden,
    InvalidInput,
    ScopeExceeded,
    TooManyCredentials,
)
from db.records import AuditAction, Credential, CredentialStatus
from gateway.auth.jwk import thumbprint
from gateway.services.minting import MAX_USABLE
from tests.client_keys import ClientKey
from tests.gateway import PUBLIC_URL, Client, RunningGateway
from tests.services.test_credentials import accepted, logs_in, only_credential
from tests.services.test_rotation import end_of, found


async def token_by(gateway: RunningGateway, client: Client, key: ClientKey) -> str | None:
    """What the token endpoint gives to the holder of the key; None when it is refused."""
    issuer = f"{PUBLIC_URL}/t/{client.slug}"
    answer = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data={"grant_type": "client_credentials"}
        | key.form(client.client_id, issuer, gateway.clock.now),
    )
    assert answer.status_code in (200, 401), answer.text
    return answer.json()["access_token"] if answer.status_code == 200 else None


async def enrolled(
    gateway: RunningGateway, admin: Client, worker: Client, key: ClientKey, **terms: Any
) -> Credential:
    call = await gateway.as_caller(admin)
    return await gateway.gateway.credentials.enrol(
        call, UUID(worker.client_id), key.public, **terms
    )


async def test_a_key_gets_its_agent_tokens_and_no_secret_does(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    key, end = ClientKey(), gateway.clock.now + timedelta(days=1)
    credential = await enrolled(gateway, admin, worker, key, label="signer", expires_at=end)
    assert (credential.label, credential.expires_at) == ("signer", end)
    assert (credential.secret_hash, credential.secret_tag) == ("!", None)
    assert credential.public_key == key.public
    assert await found(gateway, admin, credential) == credential
    token = await token_by(gateway, worker, key)
    assert token is not None
    assert await accepted(gateway, token)
    assert await token_by(gateway, worker, ClientKey()) is None
    for secret in ("!", "", "x"):
        assert not await logs_in(gateway, worker, secret)
    event = (await gateway.trail(admin, AuditAction.CREDENTIAL_GENERATED))[-1]
    assert event.metadata == {
        "agentId": worker.client_id,
        "credentialId": str(credential.credential_id),
        "publicKeyThumbprint": thumbprint(key.public),
    }


async def test_whoever_may_not_make_a_secret_may_not_bring_a_key(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    credentials, key = gateway.gateway.credentials, ClientKey()
    trail = await gateway.trail(admin, AuditAction.CREDENTIAL_GENERATED)
    plain = await gateway.as_caller(worker)
    with pytest.raises(Forbidden):
        await credentials.enrol(plain, UUID(admin.client_id), key.public)
    narrow = await gateway.as_caller(admin, "credentials:write")
    theirs = await only_credential(gateway, admin)
    with pytest.raises(ScopeExceeded):
        await credentials.enrol(narrow, UUID(admin.client_id), key.public)
    with pytest.raises(ScopeExceeded):
        await credentials.rotate_to_key(narrow, theirs.credential_id, key.public)
    assert await only_credential(gateway, admin) == theirs
    assert await gateway.trail(admin, AuditAction.CREDENTIAL_GENERATED) == trail
    assert await credentials.enrol(plain, UUID(worker.client_id), key.public)


@pytest.mark.parametrize(
    "changes", [{"d": "AAAA"}, {"kty": "oct"}, {"x": "AAAA"}, {"crv": "P-384"}]
)
async def test_what_is_no_public_key_makes_nothing(
    in_memory: RunningGateway, changes: dict[str, str]
) -> None:
    admin = await in_memory.onboard()
    call = await in_memory.as_caller(admin)
    old = await only_credential(in_memory, admin)
    trail = await in_memory.trail(admin)
    credentials, key = in_memory.gateway.credentials, ClientKey().public | changes
    with pytest.raises(InvalidInput) as refused:
        await credentials.enrol(call, UUID(admin.client_id), key)
    assert refused.value.path == ("publicKey",)
    with pytest.raises(InvalidInput) as refused:
        await credentials.rotate_to_key(call, old.credential_id, key, overlap_seconds=9)
    assert refused.value.path == ("publicKey",)
    assert await only_credential(in_memory, admin) == old
    assert await in_memory.trail(admin) == trail


@pytest.mark.parametrize("overlap", [0, 60])
async def test_a_key_is_replaced_by_another_key(gateway: RunningGateway, overlap: int) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    key, next_key = ClientKey(), ClientKey()
    old = await enrolled(gateway, admin, worker, key, label="signer")
    token = await token_by(gateway, worker, key)
    assert token is not None
    call = await gateway.as_caller(admin)
    fresh = await gateway.gateway.credentials.rotate_to_key(
        call, old.credential_id, next_key.public, overlap_seconds=overlap
    )
    assert (fresh.label, fresh.public_key, fresh.secret_hash) == ("signer", next_key.public, "!")
    assert (await found(gateway, admin, old)).replaced_by == fresh.credential_id
    assert await token_by(gateway, worker, next_key)
    assert bool(await token_by(gateway, worker, key)) is bool(overlap)
    assert await accepted(gateway, token) is bool(overlap)
    [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)
    assert event.metadata["publicKeyThumbprint"] == thumbprint(next_key.public)
    if overlap:
        gateway.clock.now = await end_of(gateway, admin, old)
        assert await token_by(gateway, worker, key) is None
        assert await accepted(gateway, token)


async def test_nobody_goes_back_from_a_key_to_a_secret_by_rotating(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    key = ClientKey()
    old = await enrolled(gateway, admin, worker, key)
    trail = await gateway.actions(admin)
    for overlap in (0, 60):
        call = await gateway.as_caller(admin)
        with pytest.raises(InvalidInput) as refused:
            await gateway.gateway.credentials.rotate(
                call, old.credential_id, overlap_seconds=overlap
            )
        assert refused.value.path == ("publicKey",)
    assert await found(gateway, admin, old) == old
    assert set((await gateway.actions(admin))[len(trail) :]) == {"token.issued"}


async def test_an_agent_comes_from_a_secret_to_a_key_without_a_gap(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    key, call = ClientKey(), await gateway.as_caller(admin)
    fresh = await gateway.gateway.credentials.rotate_to_key(
        call, old.credential_id, key.public, overlap_seconds=60
    )
    assert fresh.public_key == key.public
    assert await logs_in(gateway, worker, worker.secret)
    assert await token_by(gateway, worker, key)
    gateway.clock.advance(60)
    assert not await logs_in(gateway, worker, worker.secret)
    assert await token_by(gateway, worker, key)


async def test_one_key_is_one_credential_of_an_agent_however_it_is_named(
    gateway: RunningGateway,
) -> None:
    """Otherwise ending one of the two would end nothing."""
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    key = ClientKey()
    old = await enrolled(gateway, admin, worker, key)
    credentials = gateway.gateway.credentials
    call = await gateway.as_caller(admin)
    again = key.public | {"kid": "another-name", "alg": "ES256"}
    with pytest.raises(InvalidInput) as refused:
        await credentials.enrol(call, UUID(worker.client_id), again)
    assert refused.value.path == ("publicKey",)
    for overlap in (0, 60):
        with pytest.raises(InvalidInput) as refused:
            await credentials.rotate_to_key(call, old.credential_id, again, overlap_seconds=overlap)
        assert refused.value.path == ("publicKey",)
    assert await found(gateway, admin, old) == old
    # Another agent may be the holder of the same key: it is named by its client id.
    await credentials.enrol(call, UUID(admin.client_id), key.public)
    await credentials.revoke(call, old.credential_id)
    assert await token_by(gateway, worker, key) is None
    back = await credentials.enrol(call, UUID(worker.client_id), again)
    assert back.credential_id != old.credential_id


async def test_both_kinds_count_and_both_end_alike(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    agent_id = UUID(worker.client_id)
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    keys = [ClientKey() for _ in range(MAX_USABLE - 1)]
    made = [await credentials.enrol(call, agent_id, key.public) for key in keys]
    with pytest.raises(TooManyCredentials):
        await credentials.enrol(call, agent_id, ClientKey().public)
    with pytest.raises(TooManyCredentials):
        await credentials.generate(call, agent_id)
    token = await token_by(gateway, worker, keys[0])
    assert token is not None
    revoked = await credentials.revoke(call, made[0].credential_id)
    assert revoked.status is CredentialStatus.REVOKED
    assert not await accepted(gateway, token)
    assert await token_by(gateway, worker, keys[0]) is None
    with pytest.raises(CredentialNotActive):
        await credentials.rotate_to_key(call, made[0].credential_id, ClientKey().public)
    await credentials.generate(call, agent_id)
