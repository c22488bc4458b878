"""Credentials: generated, rotated, revoked, and never wider than whoever makes them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import (
    AgentIdPError,
    AgentNotActive,
    CredentialNotActive,
    Forbidden,
    InvalidInput,
    NotFound,
    ScopeExceeded,
    Unauthenticated,
)
from db.filters import CredentialFilter
from db.pages import PageRequest
from db.records import AuditAction, Credential, CredentialStatus
from tests.gateway import Client, RunningGateway, but_for_uses


async def only_credential(gateway: RunningGateway, client: Client) -> Credential:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    usable = await reader.of_client(UUID(client.client_id), gateway.clock.now)
    [credential] = but_for_uses(usable)
    return credential


async def accepted(gateway: RunningGateway, token: str) -> bool:
    try:
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    except Unauthenticated:
        return False
    return True


async def logs_in(gateway: RunningGateway, client: Client, secret: str) -> bool:
    answer = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, secret),
    )
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


class TestGenerate:
    async def test_a_secret_is_shown_once_and_kept_as_a_hash(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        end = call.now + timedelta(days=1)
        fresh = await gateway.gateway.credentials.generate(
            call, UUID(worker.client_id), expires_at=end, label="nightly"
        )
        credential = fresh.credential
        assert (credential.label, credential.expires_at) == ("nightly", end)
        assert credential.status is CredentialStatus.ACTIVE
        found = await gateway.gateway.credentials.get(call, credential.credential_id)
        assert found == credential
        assert fresh.secret not in repr((fresh, found, await gateway.trail(admin)))
        assert await logs_in(gateway, worker, fresh.secret)
        event = (await gateway.trail(admin, AuditAction.CREDENTIAL_GENERATED))[-1]
        assert str(event.agent_id) == admin.client_id
        assert event.metadata == {
            "agentId": worker.client_id,
            "credentialId": str(credential.credential_id),
        }

    async def test_an_agent_makes_its_own_without_a_scope_and_no_other_s(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        call = await gateway.as_caller(worker)
        fresh = await gateway.gateway.credentials.generate(call, UUID(worker.client_id))
        assert await logs_in(gateway, worker, fresh.secret)
        before = len(await gateway.trail(admin))
        for agent_id in (UUID(admin.client_id), uuid4()):
            with pytest.raises(Forbidden) as refused:
                await gateway.gateway.credentials.generate(call, agent_id)
            assert refused.value.scope == "credentials:write"
        assert len(await gateway.trail(admin)) == before

    async def test_a_narrow_token_makes_no_secret_that_could_do_more(
        self, gateway: RunningGateway
    ) -> None:
        """Not even for its own agent: with the secret it would get the wider token."""
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin, ["tokens:read", "billing:read"])
        call = await gateway.as_caller(admin, "credentials:write")
        before = len(await gateway.trail(admin))
        for client in (admin, worker):
            with pytest.raises(ScopeExceeded):
                await gateway.gateway.credentials.generate(call, UUID(client.client_id))
            old = await only_credential(gateway, client)
            with pytest.raises(ScopeExceeded):
                await gateway.gateway.credentials.rotate(call, old.credential_id)
            assert await only_credential(gateway, client) == old
        assert len(await gateway.trail(admin)) == before
        wide = await gateway.as_caller(admin, "credentials:write tokens:read")
        assert await gateway.gateway.credentials.generate(wide, UUID(worker.client_id))

    async def test_what_is_malformed_makes_nothing(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agent_id = UUID(admin.client_id)
        before = len(await gateway.trail(admin))
        credentials = gateway.gateway.credentials
        for label in ("x" * 65, "\x00", "\ud800"):
            with pytest.raises(InvalidInput) as refused:
                await credentials.generate(call, agent_id, label=label)
            assert refused.value.path == ("label",)
        for end in (call.now, call.now - timedelta(seconds=1)):
            with pytest.raises(InvalidInput) as refused:
                await credentials.generate(call, agent_id, expires_at=end)
            assert refused.value.path == ("expiresAt",)
        assert await only_credential(gateway, admin)
        assert len(await gateway.trail(admin)) == before

    async def test_none_is_made_for_an_agent_that_is_not_active(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        old = await only_credential(gateway, worker)
        await gateway.gateway.agents.suspend(call, UUID(worker.client_id))
        credentials = gateway.gateway.credentials
        with pytest.raises(AgentNotActive):
            await credentials.generate(call, UUID(worker.client_id))
        with pytest.raises(AgentNotActive):
            await credentials.rotate(call, old.credential_id)
        assert await only_credential(gateway, worker) == old
        assert len(await gateway.trail(admin, AuditAction.CREDENTIAL_GENERATED)) == 2
        assert not await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)


class TestRotate:
    async def test_the_new_secret_takes_over_and_the_old_one_ends(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        first = await gateway.gateway.credentials.generate(
            call,
            UUID(worker.client_id),
            expires_at=call.now + timedelta(days=9),
            label="nightly",
        )
        labelled = Client(worker.slug, worker.client_id, first.secret)
        token, others = await gateway.token(labelled), await gateway.token(worker)
        gateway.clock.advance(1)
        call = await gateway.as_caller(admin)
        fresh = await gateway.gateway.credentials.rotate(call, first.credential.credential_id)
        assert fresh.credential.credential_id != first.credential.credential_id
        assert (fresh.credential.label, fresh.credential.expires_at) == (
            "nightly",
            first.credential.expires_at,
        )
        old = await gateway.gateway.credentials.get(call, first.credential.credential_id)
        assert old is not None
        assert (old.status, old.revoked_at) == (CredentialStatus.REVOKED, call.now)
        assert old.replaced_by == fresh.credential.credential_id
        assert await logs_in(gateway, worker, fresh.secret)
        assert not await logs_in(gateway, worker, first.secret)
        # With the secret end the tokens that it got; those of another secret live on.
        assert not await accepted(gateway, token)
        assert await accepted(gateway, others)
        [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)
        assert event.metadata == {
            "agentId": worker.client_id,
            "credentialId": str(fresh.credential.credential_id),
            "replacedCredentialId": str(first.credential.credential_id),
            "overlapSeconds": 0,
            "replacedEndsAt": call.now.isoformat(),
        }
        assert not await gateway.trail(admin, AuditAction.CREDENTIAL_REVOKED)

    async def test_of_many_that_rotate_at_once_one_does(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        old = await only_credential(gateway, worker)
        outcomes: list[str] = []

        async def rotate() -> None:
            try:
                fresh = await gateway.gateway.credentials.rotate(call, old.credential_id)
                outcomes.append(fresh.secret)
            except AgentIdPError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(rotate)
        [secret] = set(outcomes) - {"CREDENTIAL_NOT_ACTIVE"}
        assert outcomes.count("CREDENTIAL_NOT_ACTIVE") == 4
        assert await only_credential(gateway, worker)
        assert await logs_in(gateway, worker, secret)
        assert len(await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)) == 1

    async def test_a_credential_that_has_ended_is_not_rotated(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        credentials = gateway.gateway.credentials
        ending = await credentials.generate(
            call, UUID(worker.client_id), expires_at=call.now + timedelta(seconds=1)
        )
        revoked = await only_credential_but(gateway, worker, ending.credential)
        await credentials.revoke(call, revoked.credential_id)
        gateway.clock.advance(1)
        call = await gateway.as_caller(admin)
        for credential in (ending.credential, revoked):
            with pytest.raises(CredentialNotActive):
                await credentials.rotate(call, credential.credential_id)
        assert not await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)


class TestRevoke:
    async def test_its_secret_and_its_tokens_end_and_no_other_s(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        first = await only_credential(gateway, worker)
        token = await gateway.token(worker)
        second = await gateway.gateway.credentials.generate(call, UUID(worker.client_id))
        others = await gateway.token(Client("acme", worker.client_id, second.secret))
        revoked = await gateway.gateway.credentials.revoke(call, first.credential_id)
        assert (revoked.status, revoked.revoked_at) == (CredentialStatus.REVOKED, call.now)
        assert not await accepted(gateway, token)
        assert await accepted(gateway, others)
        assert not await logs_in(gateway, worker, worker.secret)
        assert await logs_in(gateway, worker, second.secret)
        [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_REVOKED)
        assert event.metadata == {
            "agentId": worker.client_id,
            "credentialId": str(first.credential_id),
        }

    async def test_it_is_revoked_once(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        worker = await gateway.client_of(admin)
        credential = await only_credential(gateway, worker)
        await gateway.gateway.credentials.revoke(call, credential.credential_id)
        with pytest.raises(CredentialNotActive):
            await gateway.gateway.credentials.revoke(call, credential.credential_id)
        assert len(await gateway.trail(admin, AuditAction.CREDENTIAL_REVOKED)) == 1

    async def test_an_agent_revokes_its_own_without_a_scope(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        call = await gateway.as_caller(worker)
        credential = await only_credential(gateway, worker)
        revoked = await gateway.gateway.credentials.revoke(call, credential.credential_id)
        assert revoked.status is CredentialStatus.REVOKED


async def test_an_unknown_foreign_or_unreachable_credential_is_not_found(
    gateway: RunningGateway,
) -> None:
    """Alike: of another tenant, of another agent without the scope, of nobody."""
    admin, other = await gateway.onboard(), await gateway.onboard("globex")
    worker = await gateway.client_of(admin)
    call = await gateway.as_caller(worker)
    theirs = await only_credential(gateway, other)
    administrators = await only_credential(gateway, admin)
    before = await gateway.actions(admin), await gateway.actions(other)
    credentials = gateway.gateway.credentials
    for credential_id in (uuid4(), theirs.credential_id, administrators.credential_id):
        assert await credentials.get(call, credential_id) is None
        for act in (credentials.rotate, credentials.revoke):
            with pytest.raises(NotFound, match=r"^there is no such credential$"):
                await act(call, credential_id)
    assert await only_credential(gateway, other) == theirs
    assert await only_credential(gateway, admin) == administrators
    assert (await gateway.actions(admin), await gateway.actions(other)) == before


async def test_reading_others_needs_credentials_read(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    own, others = UUID(worker.client_id), UUID(admin.client_id)
    credentials = gateway.gateway.credentials
    plain = await gateway.as_caller(worker)
    reader = await gateway.as_caller(admin, "credentials:read")
    request, everything = PageRequest(), CredentialFilter()
    found = await credentials.pages(plain, [own], request, everything)
    assert [each.client_id for each in found[own].items] == [own]
    with pytest.raises(Forbidden) as refused:
        await credentials.pages(plain, [own, others], request, everything)
    assert refused.value.scope == "credentials:read"
    found = await credentials.pages(reader, [own, others], request, everything)
    assert [len(found[each].items) for each in (own, others)] == [1, 1]
    assert await credentials.count(reader, everything) == 2


async def only_credential_but(
    gateway: RunningGateway, client: Client, but: Credential
) -> Credential:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    [credential] = [
        each
        for each in await reader.of_client(UUID(client.client_id), gateway.clock.now)
        if each.credential_id != but.credential_id
    ]
    return credential
