"""A credential that comes to its own end takes none of its tokens with it, before and after the
job that shows it as ended; whoever wants them cut can still revoke it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from db.errors import CredentialNotActive, Unauthenticated
from db.records import AuditAction, CredentialStatus
from db.work import JobName
from tests.gateway import Client, RunningGateway
from tests.workers.harness import queue

END = timedelta(seconds=60)


async def accepted(gateway: RunningGateway, token: str) -> bool:
    try:
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    except Unauthenticated:
        return False
    return True


async def ending(gateway: RunningGateway, admin: Client) -> tuple[Client, UUID]:
    """A further secret of the administrator's, that ends in a minute."""
    call = await gateway.as_caller(admin)
    fresh = await gateway.gateway.credentials.generate(
        call, UUID(admin.client_id), expires_at=call.now + END
    )
    client = Client(admin.slug, admin.client_id, fresh.secret)
    return client, fresh.credential.credential_id


async def does(gateway: RunningGateway, job: JobName) -> object:
    """How much the job has changed, run by the gateway's own process."""
    storage = gateway.gateway.storage
    key = await queue(storage, job, gateway.clock.now)
    await gateway.gateway.queue.ring(key)
    ended = await storage.registry.work.get(key)
    assert ended is not None
    assert ended.report is not None, ended.last_error
    assert ended.report["failures"] == {}
    return ended.report["changed"]


async def expire(gateway: RunningGateway) -> object:
    return await does(gateway, JobName.EXPIRE_CREDENTIALS)


async def test_a_token_got_a_second_before_the_end_lives_on_after_the_job(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    client, credential_id = await ending(gateway, admin)
    gateway.clock.advance(END.total_seconds() - 1)
    token = await gateway.token(client)
    gateway.clock.advance(2)
    assert await accepted(gateway, token)

    assert await expire(gateway) == 1

    await does(gateway, JobName.WARM_REVOCATIONS)
    assert await accepted(gateway, token)
    shown = await gateway.gateway.storage.read(admin.prefix).credentials.get(credential_id)
    assert shown is not None
    assert (shown.status, shown.revoked_at) == (CredentialStatus.REVOKED, shown.expires_at)
    refused = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, client.secret),
    )
    assert refused.status_code == 401
    [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_REVOKED)
    assert event.metadata["reason"] == "expired"
    assert await expire(gateway) == 0


async def test_one_that_was_revoked_before_its_end_stays_cut_after_the_job(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    client, credential_id = await ending(gateway, admin)
    token = await gateway.token(client)
    await gateway.gateway.credentials.revoke(await gateway.as_caller(admin), credential_id)
    gateway.clock.advance(END.total_seconds() + 1)

    assert await expire(gateway) == 0

    assert not await accepted(gateway, token)


@pytest.mark.parametrize("shown", [False, True])
async def test_what_it_left_behind_is_cut_by_revoking_it_after_its_end(
    gateway: RunningGateway, shown: bool
) -> None:
    admin = await gateway.onboard()
    client, credential_id = await ending(gateway, admin)
    token = await gateway.token(client)
    gateway.clock.advance(END.total_seconds() + 1)
    if shown:
        assert await expire(gateway) == 1
    assert await accepted(gateway, token)

    call = await gateway.as_caller(admin)
    await gateway.gateway.credentials.revoke(call, credential_id)

    assert not await accepted(gateway, token)
    with pytest.raises(CredentialNotActive):
        await gateway.gateway.credentials.revoke(call, credential_id)
    assert await expire(gateway) == 0
    assert not await accepted(gateway, token)


async def test_a_rotation_that_comes_too_late_cuts_nothing(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    client, credential_id = await ending(gateway, admin)
    token = await gateway.token(client)
    gateway.clock.advance(END.total_seconds() + 1)
    await expire(gateway)

    call = await gateway.as_caller(admin)
    with pytest.raises(CredentialNotActive):
        await gateway.gateway.credentials.rotate(call, credential_id)

    assert await accepted(gateway, token)
    assert await gateway.gateway.storage.read(admin.prefix).credentials.count() == 2
