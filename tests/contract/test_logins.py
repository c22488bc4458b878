"""What a client proves itself with: found in one statement, hashed anew, and noted as used."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from db.contract import Storage
from db.records import AgentStatus, Credential, CredentialStatus, Login
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    after,
    new_agent,
    new_credential,
    put,
    whole_agent,
    whole_credential,
)
from tests.contract.paging import items

REVOKED = CredentialStatus.REVOKED
HASH, TAG = "$2b$12$another", "c0de"


@pytest.fixture
async def credential(storage: Storage) -> Credential:
    agent = new_agent()
    credential = whole_credential(agent.agent_id, secret_hash="$2b$04$first", last_used_at=NOW)
    await put(storage, ACME, agent, credential)
    return credential


async def stored(storage: Storage, credential: Credential) -> Credential | None:
    return await storage.read(ACME).credentials.get(credential.credential_id)


class TestLogin:
    async def test_it_is_the_agent_with_what_it_can_use_newest_first(
        self, storage: Storage
    ) -> None:
        agent, other = whole_agent(), new_agent()
        client = agent.agent_id
        usable = [
            new_credential(client, created_at=after(3), secret_tag="beef"),
            new_credential(client, created_at=after(2), secret_hash="!", public_key={"kty": "OKP"}),
            new_credential(client, created_at=after(1), replaced_by=uuid4(), expires_at=after(9)),
            new_credential(client, expires_at=NOW + MICROSECOND),
        ]
        unusable = [
            new_credential(client, created_at=after(5), expires_at=NOW),
            new_credential(client, created_at=after(6), status=REVOKED, revoked_at=NOW),
            new_credential(other.agent_id, created_at=after(7)),
        ]
        await put(storage, ACME, agent, other, *unusable, *reversed(usable))
        reader = storage.read(ACME).credentials
        assert await reader.login(client, NOW) == Login(agent, usable)
        assert await reader.login(client, NOW + MICROSECOND) == Login(agent, usable[:-1])
        assert list(await reader.of_client(client, NOW)) == usable

    async def test_an_agent_that_has_nothing_usable_is_known_all_the_same(
        self, storage: Storage
    ) -> None:
        bare, ended, other = new_agent(), new_agent(), new_agent()
        over = [
            new_credential(ended.agent_id, status=REVOKED, revoked_at=NOW),
            new_credential(ended.agent_id, expires_at=NOW),
        ]
        await put(storage, ACME, bare, ended, other, *over, new_credential(other.agent_id))
        reader = storage.read(ACME).credentials
        for agent in (bare, ended):
            assert await reader.login(agent.agent_id, NOW) == Login(agent, [])

    async def test_nobody_is_nobody(self, storage: Storage, credential: Credential) -> None:
        elsewhere = new_agent()
        await put(storage, GLOBEX, elsewhere, new_credential(elsewhere.agent_id))
        for client_id in (uuid4(), elsewhere.agent_id, credential.credential_id):
            assert await storage.read(ACME).credentials.login(client_id, NOW) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"status": AgentStatus.SUSPENDED},
            {"status": AgentStatus.DECOMMISSIONED},
            {"kill_switched_at": NOW, "kill_switch_reason": "it went astray"},
        ],
    )
    async def test_one_that_may_not_act_is_found_with_all_that_says_so(
        self, storage: Storage, changes: dict[str, object]
    ) -> None:
        """Refusing it is the caller's part, and costs what a login costs."""
        agent = new_agent(**changes)
        credential = new_credential(agent.agent_id)
        await put(storage, ACME, agent, credential)
        login = await storage.read(ACME).credentials.login(agent.agent_id, NOW)
        assert login == Login(agent, [credential])
        assert not login.agent.is_active


class TestRehash:
    async def test_another_hash_of_the_secret_takes_the_place_of_the_first(
        self, storage: Storage, credential: Credential
    ) -> None:
        async with storage.unit(ACME) as unit:
            assert await unit.credentials.rehash(
                credential.credential_id, credential.secret_hash, HASH, TAG
            )
            expected = replace(credential, secret_hash=HASH, secret_tag=TAG)
            assert await unit.credentials.get(credential.credential_id) == expected
        assert await stored(storage, credential) == expected

    async def test_what_is_there_no_more_is_not_replaced(
        self, storage: Storage, credential: Credential
    ) -> None:
        async with storage.unit(ACME) as unit:
            for credential_id, was in (
                (credential.credential_id, HASH),
                (credential.credential_id, ""),
                (uuid4(), credential.secret_hash),
            ):
                assert not await unit.credentials.rehash(credential_id, was, HASH, TAG)
        assert await items(storage.read(ACME).credentials.page) == [credential]

    async def test_of_two_that_do_it_one_after_the_other_the_second_finds_it_done(
        self, storage: Storage, credential: Credential
    ) -> None:
        identifier, was = credential.credential_id, credential.secret_hash
        answers = []
        for hashed in (HASH, "$2b$12$third"):
            async with storage.unit(ACME) as unit:
                answers.append(await unit.credentials.rehash(identifier, was, hashed, TAG))
        assert answers == [True, False]
        assert await stored(storage, credential) == replace(
            credential, secret_hash=HASH, secret_tag=TAG
        )

    async def test_saving_what_was_read_before_does_not_undo_it(
        self, storage: Storage, credential: Credential
    ) -> None:
        identifier, was = credential.credential_id, credential.secret_hash
        async with storage.unit(ACME) as unit:
            await unit.credentials.rehash(identifier, was, HASH, TAG)
        async with storage.unit(ACME) as unit:
            await unit.credentials.save(replace(credential, label="renamed"))
        assert await stored(storage, credential) == replace(
            credential, secret_hash=HASH, secret_tag=TAG, label="renamed"
        )


class TestUsed:
    async def test_the_last_use_is_raised_and_nothing_else(
        self, storage: Storage, credential: Credential
    ) -> None:
        never = new_credential(credential.client_id)
        bystander = new_credential(credential.client_id)
        await put(storage, ACME, never, bystander)
        uses = {never.credential_id: after(1), credential.credential_id: NOW + MICROSECOND}
        async with storage.unit(ACME) as unit:
            assert list(await unit.credentials.used(uses)) == []
        for each in (never, credential):
            assert await stored(storage, each) == replace(
                each, last_used_at=uses[each.credential_id]
            )
        assert await stored(storage, bystander) == bystander

    async def test_it_never_goes_back(self, storage: Storage, credential: Credential) -> None:
        for at in (after(-1), NOW, NOW - MICROSECOND):
            async with storage.unit(ACME) as unit:
                assert list(await unit.credentials.used({credential.credential_id: at})) == []
            assert await stored(storage, credential) == credential

    async def test_those_that_are_unknown_are_told_in_the_order_of_the_uses(
        self, storage: Storage, credential: Credential
    ) -> None:
        first, second = uuid4(), uuid4()
        uses = {second: NOW, credential.credential_id: after(1), first: NOW}
        async with storage.unit(ACME) as unit:
            assert list(await unit.credentials.used(uses)) == [second, first]
            assert list(await unit.credentials.used({})) == []
        assert await stored(storage, credential) == replace(credential, last_used_at=after(1))
