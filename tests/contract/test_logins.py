"""What a client proves itself with: found in one statement, hashed anew, and noted as used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest

from db.contract import Storage
from db.fields import partial
from db.records import Agent, AgentStatus, Credential, CredentialStatus, Login
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
from tests.contract.shown import shown

REVOKED = CredentialStatus.REVOKED
HASH, TAG = "$2b$12$another", "c0de"


@pytest.fixture
async def credential(storage: Storage) -> Credential:
    agent = new_agent()
    credential = replace(
        whole_credential(agent.agent_id, secret_hash="$2b$04$first", last_used_at=NOW),
        status=CredentialStatus.ACTIVE, revoked_at=None, expires_at=None,
    )  # fmt: skip
    await put(storage, ACME, agent, credential)
    return credential


def expected(agent: Agent, *usable: Credential) -> object:
    """What a login shows: of each record the fields that `Login` names, and no others."""

    def cut(record: Any, names: Sequence[str]) -> Any:
        return partial(type(record), names, (getattr(record, name) for name in names))

    return shown(Login(cut(agent, Login.AGENT), [cut(c, Login.CREDENTIAL) for c in usable]))


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
        assert shown(await reader.login(client, NOW)) == expected(agent, *usable)
        assert shown(await reader.login(client, NOW + MICROSECOND)) == expected(agent, *usable[:-1])
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
            assert shown(await reader.login(agent.agent_id, NOW)) == expected(agent)

    async def test_a_crowd_is_told_each_its_own_as_of_each_its_own_instant(
        self, storage: Storage
    ) -> None:
        agents = [new_agent() for _ in range(5)]
        ending = [
            new_credential(each.agent_id, expires_at=after(number))
            for number, each in enumerate(agents)
        ]
        await put(storage, ACME, *agents, *ending)
        reader = storage.read(ACME).credentials
        asked = [(agent, after(second)) for agent in agents for second in range(-1, 6)] * 3
        told: dict[int, object] = {}

        async def ask(place: int) -> None:
            agent, now = asked[place]
            told[place] = shown(await reader.login(agent.agent_id, now))

        async with anyio.create_task_group() as group:
            for place in range(len(asked)):
                group.start_soon(ask, place)
        for place, (agent, now) in enumerate(asked):
            own = ending[agents.index(agent)]
            assert told[place] == expected(agent, *([own] if own.usable_at(now) else []))

    async def test_what_is_read_is_read_after_it_was_asked_for(
        self, storage: Storage, credential: Credential
    ) -> None:
        """While others ask without end, nobody is told of a credential as it was before."""
        client, reader = credential.client_id, storage.read(ACME).credentials
        going = True

        async def others() -> None:
            while going:
                await reader.login(client, NOW)
                # A backend may have no reason to wait.
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(others)
            for number in range(20):
                changed = replace(credential, last_used_at=NOW + timedelta(seconds=number))
                async with storage.unit(ACME) as unit:
                    await unit.credentials.save(changed)
                login = await reader.login(client, NOW)
                assert login
                assert login.credentials[0].last_used_at == changed.last_used_at
            going = False

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
        assert login
        assert shown(login) == expected(agent, credential)
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

    async def test_a_credential_that_was_revoked_is_left_as_it_is(
        self, storage: Storage, credential: Credential
    ) -> None:
        revoked = replace(credential, status=REVOKED, revoked_at=NOW)
        async with storage.unit(ACME) as unit:
            await unit.credentials.save(revoked)
            identifier, was = credential.credential_id, credential.secret_hash
            assert not await unit.credentials.rehash(identifier, was, HASH, TAG)
        assert await stored(storage, credential) == revoked

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
