"""Credentials: they belong to an agent, end at an instant, and are revoked together."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import pytest

from db.contract import Storage
from db.errors import IdTaken, NotFound
from db.filters import CredentialFilter
from db.records import Agent, Credential, CredentialStatus, JSONObject
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    after,
    new_agent,
    new_credential,
    put,
    whole_credential,
)
from tests.contract.paging import (
    EVERYTHING,
    Fetch,
    items,
)

ACTIVE, REVOKED = CredentialStatus.ACTIVE, CredentialStatus.REVOKED


@pytest.fixture
async def agent(storage: Storage) -> Agent:
    agent = new_agent()
    await put(storage, ACME, agent)
    return agent


def listing(storage: Storage, filter: CredentialFilter = CredentialFilter()) -> Fetch[Credential]:
    return lambda request: storage.read(ACME).credentials.page(request, filter)


async def test_an_added_credential_reads_back_as_it_was_written(
    storage: Storage, agent: Agent
) -> None:
    bare = new_credential(agent.agent_id)
    whole = whole_credential(agent.agent_id, created_at=after(1))
    await put(storage, ACME, bare, whole)
    credentials = storage.read(ACME).credentials
    for credential in (bare, whole):
        assert await credentials.get(credential.credential_id) == credential
        assert await credentials.get_many([credential.credential_id]) == {
            credential.credential_id: credential
        }
        async with storage.unit(ACME) as unit:
            assert await unit.credentials.get(credential.credential_id) == credential
    assert await items(credentials.page) == [whole, bare]


async def test_many_are_read_at_once_and_those_that_are_unknown_left_out(
    storage: Storage, agent: Agent
) -> None:
    one, other = new_credential(agent.agent_id), whole_credential(agent.agent_id)
    await put(storage, ACME, one, other, new_credential(agent.agent_id))
    credentials = storage.read(ACME).credentials
    asked = [one.credential_id, uuid4(), other.credential_id, one.credential_id]
    assert await credentials.get_many(asked) == {each.credential_id: each for each in (one, other)}
    assert await credentials.get_many([]) == {}
    labels = await credentials.get_many(asked, {"label"})
    assert [labels[each].label for each in (one.credential_id, other.credential_id)] == [
        one.label,
        other.label,
    ]
    assert labels[one.credential_id].client_id == agent.agent_id
    with pytest.raises(AttributeError):
        _ = labels[one.credential_id].secret_hash


async def test_a_public_key_is_nobody_else_s_and_comes_back_in_one_form(
    storage: Storage, agent: Agent
) -> None:
    key: JSONObject = {"longer": [1], "b": "2", "a": {"y": 1, "x": 2}}
    credential = new_credential(agent.agent_id, public_key=key)
    await put(storage, ACME, credential)
    key.clear()
    credentials = storage.read(ACME).credentials
    client = agent.agent_id

    async def reads() -> list[Credential]:
        login = await credentials.login(client, NOW)
        standing = await storage.read(ACME).revocations.standing(
            uuid4(), client, credential.credential_id
        )
        single = await credentials.get(credential.credential_id)
        assert login
        assert standing
        assert standing.credential
        assert single
        async with storage.unit(ACME) as unit:
            held = await unit.credentials.get(credential.credential_id)
            assert held
            usable = await unit.credentials.of_client(client, NOW)
        return [
            single,
            held,
            standing.credential,
            *login.credentials,
            *usable,
            *await credentials.of_client(client, NOW),
            *(await credentials.get_many([credential.credential_id])).values(),
            *(await credentials.page(EVERYTHING)).items,
            *(await credentials.page(EVERYTHING, wanted={"public_key"})).items,
        ]

    kept = '{"a": {"x": 2, "y": 1}, "b": "2", "longer": [1]}'
    for _ in range(2):
        found = await reads()
        assert [json.dumps(each.public_key) for each in found] == [kept] * 9
        for each in found:
            assert isinstance(each.public_key, dict)
            each.public_key.clear()


async def test_an_unknown_credential_is_none(storage: Storage, agent: Agent) -> None:
    await put(storage, ACME, new_credential(agent.agent_id))
    assert await storage.read(ACME).credentials.get(agent.agent_id) is None
    async with storage.unit(ACME) as unit:
        assert await unit.credentials.get(agent.agent_id) is None


async def test_a_credential_of_no_agent_is_refused(storage: Storage, agent: Agent) -> None:
    elsewhere = new_agent()
    await put(storage, GLOBEX, elsewhere)
    for client_id in (uuid4(), elsewhere.agent_id):
        with pytest.raises(NotFound) as refusal:
            await put(storage, ACME, new_credential(client_id))
        assert (refusal.value.code, refusal.value.path) == ("NOT_FOUND", ("clientId",))
    assert await items(listing(storage)) == []


async def test_an_agent_and_its_credential_can_be_added_together(storage: Storage) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    await put(storage, ACME, agent, credential)
    assert await storage.read(ACME).credentials.get(credential.credential_id) == credential


@pytest.mark.parametrize("known_client", [True, False])
async def test_an_id_is_never_added_twice(
    storage: Storage, agent: Agent, known_client: bool
) -> None:
    first = new_credential(agent.agent_id)
    await put(storage, ACME, first)
    client_id = agent.agent_id if known_client else uuid4()
    with pytest.raises(IdTaken):
        await put(
            storage, ACME, new_credential(client_id, credential_id=first.credential_id, label="x")
        )
    assert await items(listing(storage)) == [first]


async def test_saving_replaces_what_can_change_and_nothing_else(
    storage: Storage, agent: Agent
) -> None:
    other = new_agent()
    first = new_credential(agent.agent_id, secret_tag="c0de", public_key={"kty": "OKP"})
    await put(storage, ACME, other, first)
    changed = Credential(
        credential_id=first.credential_id,
        client_id=other.agent_id,
        secret_hash="another",
        status=REVOKED,
        created_at=after(60),
        expires_at=after(1),
        revoked_at=after(2),
        label="second",
        last_used_at=after(3),
        secret_tag="beef",
        public_key={"kty": "RSA"},
        replaced_by=other.agent_id,
    )
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(changed)
    expected = replace(
        changed,
        client_id=first.client_id,
        secret_hash=first.secret_hash,
        created_at=first.created_at,
        secret_tag=first.secret_tag,
        public_key=first.public_key,
    )
    credentials = storage.read(ACME).credentials
    assert await credentials.get(first.credential_id) == expected
    assert await items(credentials.page) == [expected]
    assert await items(listing(storage, CredentialFilter(client_id=other.agent_id))) == []
    bare = replace(
        expected,
        expires_at=None,
        revoked_at=None,
        label=None,
        last_used_at=None,
        replaced_by=None,
    )
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(bare)
    assert await credentials.get(first.credential_id) == bare


async def test_saving_an_unknown_credential_is_refused(storage: Storage, agent: Agent) -> None:
    with pytest.raises(NotFound):
        async with storage.unit(ACME) as unit:
            await unit.credentials.save(new_credential(agent.agent_id))
    assert await items(listing(storage)) == []


async def test_a_client_has_its_usable_credentials_newest_first(
    storage: Storage, agent: Agent
) -> None:
    other = new_agent()
    client = agent.agent_id
    lesser, greater = sorted((uuid4(), uuid4()))
    usable = [
        new_credential(client, created_at=after(2)),
        new_credential(client, created_at=after(1), credential_id=greater),
        new_credential(client, created_at=after(1), credential_id=lesser),
        new_credential(client, expires_at=NOW + MICROSECOND),
    ]
    unusable = [
        new_credential(client, expires_at=NOW),
        new_credential(client, expires_at=NOW - MICROSECOND),
        new_credential(client, status=REVOKED, revoked_at=NOW),
        new_credential(client, status=REVOKED, expires_at=after(60), revoked_at=after(30)),
        new_credential(other.agent_id),
    ]
    await put(storage, ACME, other, *usable[2:], *unusable, *usable[:2])
    assert list(await storage.read(ACME).credentials.of_client(client, NOW)) == usable
    async with storage.unit(ACME) as unit:
        assert list(await unit.credentials.of_client(client, NOW)) == usable
    assert list(await storage.read(ACME).credentials.of_client(uuid4(), NOW)) == []


async def test_a_unit_sees_the_credentials_that_it_has_changed(
    storage: Storage, agent: Agent
) -> None:
    client = agent.agent_id
    old, ending = new_credential(client), new_credential(client, created_at=after(1))
    await put(storage, ACME, old, ending)
    new = new_credential(client, created_at=after(2))
    oldest = new_credential(client, created_at=after(-1), expires_at=after(3))
    async with storage.unit(ACME) as unit:
        await unit.credentials.add(new)
        await unit.credentials.add(oldest)
        await unit.credentials.save(replace(ending, status=REVOKED, revoked_at=NOW))
        assert list(await unit.credentials.of_client(client, NOW)) == [new, old, oldest]
        assert list(await unit.credentials.of_client(client, after(3))) == [new, old]
        assert list(await storage.read(ACME).credentials.of_client(client, NOW)) == [ending, old]
        assert await unit.credentials.revoke_all(client, after(3)) == [
            oldest.credential_id,
            old.credential_id,
            new.credential_id,
        ]
        assert list(await unit.credentials.of_client(client, NOW)) == []
    assert list(await storage.read(ACME).credentials.of_client(client, NOW)) == []


async def test_revoking_all_takes_every_active_one_expired_ones_too(
    storage: Storage, agent: Agent
) -> None:
    other = new_agent()
    client = agent.agent_id
    lesser, greater = sorted((uuid4(), uuid4()))
    active = [
        new_credential(client, created_at=NOW, expires_at=NOW - MICROSECOND),
        new_credential(client, created_at=after(1), credential_id=lesser, last_used_at=NOW),
        new_credential(client, created_at=after(1), credential_id=greater, label="ci"),
        new_credential(client, created_at=after(2), expires_at=after(99)),
    ]
    already = new_credential(client, status=REVOKED, revoked_at=NOW)
    foreign = new_credential(other.agent_id, created_at=after(3))
    await put(storage, ACME, other, active[3], active[2], already, foreign, active[1], active[0])
    async with storage.unit(ACME) as unit:
        revoked = list(await unit.credentials.revoke_all(client, after(60)))
    assert revoked == [credential.credential_id for credential in active]
    rows = {row.credential_id: row for row in await items(listing(storage))}
    for credential in active:
        expected = replace(credential, status=REVOKED, revoked_at=after(60))
        assert rows.pop(credential.credential_id) == expected
    assert rows == {each.credential_id: each for each in (already, foreign)}
    async with storage.unit(ACME) as unit:
        assert list(await unit.credentials.revoke_all(client, after(61))) == []
        assert list(await unit.credentials.revoke_all(uuid4(), after(61))) == []
