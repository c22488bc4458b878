"""Rotation with an overlap: the old secret works to the second of its end, and not after."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import (
    AgentIdPError,
    CredentialNotActive,
    InvalidInput,
    NotFound,
    ScopeExceeded,
    TooManyCredentials,
)
from db.records import AuditAction, Credential, CredentialStatus
from db.work import JobName
from gateway.services.minting import MAX_USABLE
from tests.gateway import Client, RunningGateway, but_for_uses
from tests.services.test_credentials import accepted, logs_in, only_credential
from tests.services.test_ended_credentials import does, expire

ACTIVE, REVOKED = CredentialStatus.ACTIVE, CredentialStatus.REVOKED
MICROSECOND = timedelta(microseconds=1)


async def found(gateway: RunningGateway, client: Client, credential: Credential) -> Credential:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    read = await reader.get(credential.credential_id)
    assert read is not None
    [read] = but_for_uses([read])
    return read


async def end_of(gateway: RunningGateway, client: Client, credential: Credential) -> datetime:
    end = (await found(gateway, client, credential)).expires_at
    assert end is not None
    return end


async def test_both_work_until_the_overlap_is_over(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    token = await gateway.token(worker)
    call = await gateway.as_caller(admin)

    fresh = await gateway.gateway.credentials.rotate(call, old.credential_id, overlap_seconds=60)

    end = call.now + timedelta(seconds=60)
    left = await found(gateway, admin, old)
    assert (left.status, left.revoked_at, left.expires_at) == (ACTIVE, None, end)
    assert left.replaced_by == fresh.credential.credential_id
    assert (fresh.credential.expires_at, fresh.credential.replaced_by) == (None, None)
    [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)
    assert event.metadata == {
        "agentId": worker.client_id,
        "credentialId": str(fresh.credential.credential_id),
        "replacedCredentialId": str(old.credential_id),
        "overlapSeconds": 60,
        "replacedEndsAt": end.isoformat(),
    }
    gateway.clock.now = end - MICROSECOND
    assert await logs_in(gateway, worker, worker.secret)
    late = await gateway.token(worker)
    gateway.clock.now = end
    assert not await logs_in(gateway, worker, worker.secret)
    assert await logs_in(gateway, worker, fresh.secret)
    # What it got lives on, whether its end is shown by then or not.
    assert [await accepted(gateway, each) for each in (token, late)] == [True, True]
    assert await expire(gateway) == 1
    await does(gateway, JobName.WARM_REVOCATIONS)
    assert [await accepted(gateway, each) for each in (token, late)] == [True, True]
    shown = await found(gateway, admin, old)
    assert (shown.status, shown.revoked_at) == (REVOKED, end)
    assert shown.replaced_by == fresh.credential.credential_id
    [event] = await gateway.trail(admin, AuditAction.CREDENTIAL_REVOKED)
    assert event.metadata == {
        "agentId": worker.client_id,
        "credentialId": str(old.credential_id),
        "reason": "expired",
        "replacedBy": str(fresh.credential.credential_id),
    }


async def test_an_end_of_its_own_is_not_put_off_and_the_new_one_keeps_it(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    end = call.now + timedelta(seconds=30)
    for overlap, left in ((60, 30), (30, 30), (10, 10)):
        old = await credentials.generate(
            call, UUID(admin.client_id), expires_at=end, label=f"{overlap}"
        )
        fresh = await credentials.rotate(
            call, old.credential.credential_id, overlap_seconds=overlap
        )
        assert await end_of(gateway, admin, old.credential) == call.now + timedelta(seconds=left)
        assert (fresh.credential.expires_at, fresh.credential.label) == (end, f"{overlap}")


@pytest.mark.parametrize("overlap", [-1, 604_801, 2**31 - 1, -(2**31)])
async def test_an_overlap_has_its_limits(in_memory: RunningGateway, overlap: int) -> None:
    admin = await in_memory.onboard()
    call = await in_memory.as_caller(admin)
    old = await only_credential(in_memory, admin)
    trail = await in_memory.trail(admin)
    with pytest.raises(InvalidInput) as refused:
        await in_memory.gateway.credentials.rotate(call, old.credential_id, overlap_seconds=overlap)
    assert refused.value.path == ("overlapSeconds",)
    assert await only_credential(in_memory, admin) == old
    assert await in_memory.trail(admin) == trail


async def test_the_longest_overlap_is_a_week(in_memory: RunningGateway) -> None:
    admin = await in_memory.onboard()
    call = await in_memory.as_caller(admin)
    old = await only_credential(in_memory, admin)
    await in_memory.gateway.credentials.rotate(call, old.credential_id, overlap_seconds=604_800)
    assert await end_of(in_memory, admin, old) == call.now + timedelta(days=7)


@pytest.mark.parametrize("second", [0, 60])
async def test_what_was_replaced_is_not_replaced_again(
    gateway: RunningGateway, second: int
) -> None:
    """Its overlap would begin anew, and a chain would have two ends."""
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    fresh = await credentials.rotate(call, old.credential_id, overlap_seconds=60)
    left, trail = await found(gateway, admin, old), await gateway.trail(admin)
    with pytest.raises(CredentialNotActive, match="rotate its successor") as refused:
        await credentials.rotate(call, old.credential_id, overlap_seconds=second)
    assert refused.value.path == ("credentialId",)
    assert await found(gateway, admin, old) == left
    assert await gateway.trail(admin) == trail
    assert await logs_in(gateway, worker, worker.secret)

    newest = await credentials.rotate(call, fresh.credential.credential_id, overlap_seconds=second)
    assert await logs_in(gateway, worker, newest.secret)
    assert await logs_in(gateway, worker, fresh.secret) is bool(second)
    assert await logs_in(gateway, worker, worker.secret)


@pytest.mark.parametrize("overlap", [0, 60])
async def test_of_ten_that_rotate_at_once_one_does_and_there_is_one_newest(
    gateway: RunningGateway, overlap: int
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    outcomes: Counter[str] = Counter()

    async def rotate() -> None:
        try:
            fresh = await gateway.gateway.credentials.rotate(
                call, old.credential_id, overlap_seconds=overlap
            )
            outcomes[fresh.secret] += 1
        except AgentIdPError as error:
            outcomes[error.code] += 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(rotate)
    assert outcomes.pop("CREDENTIAL_NOT_ACTIVE") == 9
    [secret] = outcomes
    reader = gateway.gateway.storage.read(worker.prefix).credentials
    usable = await reader.of_client(UUID(worker.client_id), gateway.clock.now)
    [newest] = [each for each in usable if each.replaced_by is None]
    left = await found(gateway, admin, old)
    assert left.replaced_by == newest.credential_id
    assert len(usable) == (2 if overlap else 1)
    assert await logs_in(gateway, worker, secret)
    assert await logs_in(gateway, worker, worker.secret) is bool(overlap)
    assert len(await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)) == 1


async def test_logins_at_the_time_of_a_rotation_never_meet_a_moment_without_a_secret(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    old_works, new_works = list[bool](), list[bool]()

    async def log_in(secret: str, noted: list[bool]) -> None:
        noted.append(await logs_in(gateway, worker, secret))

    async def rotate() -> None:
        fresh = await gateway.gateway.credentials.rotate(call, old.credential_id, overlap_seconds=5)
        for _ in range(4):
            group.start_soon(log_in, fresh.secret, new_works)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(log_in, worker.secret, old_works)
        group.start_soon(rotate)
        for _ in range(4):
            group.start_soon(log_in, worker.secret, old_works)
    assert (old_works, new_works) == ([True] * 8, [True] * 4)
    old_works.clear()
    gateway.clock.advance(5)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(log_in, worker.secret, old_works)
    assert old_works == [False] * 8


@pytest.mark.parametrize("revoked", ["old", "new"])
async def test_revoking_either_during_the_overlap_cuts_its_tokens_and_not_the_other_s(
    gateway: RunningGateway, revoked: str
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    fresh = await credentials.rotate(call, old.credential_id, overlap_seconds=60)
    newer = Client(worker.slug, worker.client_id, fresh.secret)
    tokens = {"old": await gateway.token(worker), "new": await gateway.token(newer)}
    gateway.clock.advance(1)

    ids = {"old": old.credential_id, "new": fresh.credential.credential_id}
    await credentials.revoke(await gateway.as_caller(admin), ids[revoked])

    for which, client in (("old", worker), ("new", newer)):
        assert await accepted(gateway, tokens[which]) is (which != revoked)
        assert await logs_in(gateway, client, client.secret) is (which != revoked)
    with pytest.raises(CredentialNotActive):
        await credentials.revoke(await gateway.as_caller(admin), ids[revoked])
    gateway.clock.advance(60)
    assert await expire(gateway) == (revoked == "new")
    await does(gateway, JobName.WARM_REVOCATIONS)
    assert await accepted(gateway, tokens[revoked]) is False


async def test_revoking_it_at_the_very_instant_of_its_end_cuts_its_tokens(
    gateway: RunningGateway,
) -> None:
    """That instant is also how one looks which came to its end by itself."""
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    await credentials.rotate(call, old.credential_id, overlap_seconds=60)
    token = await gateway.token(worker)
    gateway.clock.now = await end_of(gateway, admin, old)
    assert await accepted(gateway, token)

    revoked = await credentials.revoke(await gateway.as_caller(admin), old.credential_id)

    assert revoked.was_cut
    assert (await found(gateway, admin, old)).was_cut
    assert not await accepted(gateway, token)
    with pytest.raises(CredentialNotActive):
        await credentials.revoke(await gateway.as_caller(admin), old.credential_id)


async def test_decommissioning_ends_everything_at_once_overlap_or_not(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    fresh = await gateway.gateway.credentials.rotate(call, old.credential_id, overlap_seconds=60)
    newer = Client(worker.slug, worker.client_id, fresh.secret)
    tokens = [await gateway.token(client) for client in (worker, newer)]

    await gateway.gateway.agents.decommission(call, UUID(worker.client_id))

    for client, token in zip((worker, newer), tokens, strict=True):
        assert not await logs_in(gateway, client, client.secret)
        assert not await accepted(gateway, token)
    for each in (old, fresh.credential):
        left = await found(gateway, admin, each)
        assert (left.status, left.revoked_at, left.was_cut) == (REVOKED, call.now, True)


async def test_with_as_many_as_there_may_be_only_what_ends_at_once_is_rotated(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    old = await only_credential(gateway, worker)
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    for _ in range(MAX_USABLE - 1):
        await credentials.generate(call, UUID(worker.client_id))
    with pytest.raises(TooManyCredentials) as refused:
        await credentials.rotate(call, old.credential_id, overlap_seconds=60)
    assert refused.value.path == ("overlapSeconds",)
    assert await found(gateway, admin, old) == old
    assert not await gateway.trail(admin, AuditAction.CREDENTIAL_ROTATED)
    fresh = await credentials.rotate(call, old.credential_id)
    assert await logs_in(gateway, worker, fresh.secret)
    assert not await logs_in(gateway, worker, worker.secret)


async def test_a_chain_of_overlaps_is_held_to_the_same_number(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    newest = (await only_credential(gateway, worker)).credential_id
    call = await gateway.as_caller(admin)
    credentials = gateway.gateway.credentials
    for _ in range(MAX_USABLE - 1):
        fresh = await credentials.rotate(call, newest, overlap_seconds=60)
        newest = fresh.credential.credential_id
    with pytest.raises(TooManyCredentials):
        await credentials.rotate(call, newest, overlap_seconds=60)
    gateway.clock.advance(60)
    call = await gateway.as_caller(admin)
    assert await credentials.rotate(call, newest, overlap_seconds=60)


async def test_rotating_with_an_overlap_gives_no_more_than_rotating_without(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    theirs = await only_credential(gateway, admin)
    credentials = gateway.gateway.credentials
    plain = await gateway.as_caller(worker)
    trail = await gateway.actions(admin)
    for credential_id in (theirs.credential_id, uuid4()):
        with pytest.raises(NotFound):
            await credentials.rotate(plain, credential_id, overlap_seconds=60)
    narrow = await gateway.as_caller(admin, "credentials:write")
    with pytest.raises(ScopeExceeded):
        await credentials.rotate(narrow, theirs.credential_id, overlap_seconds=60)
    assert await only_credential(gateway, admin) == theirs
    new = [each for each in (await gateway.actions(admin))[len(trail) :] if each != "token.issued"]
    assert new == []
