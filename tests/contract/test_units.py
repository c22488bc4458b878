"""Units of work: all or nothing, seen only when done, one after another on the same row."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage
from db.errors import EmailTaken
from db.records import AgentStatus, SigningKeyStatus, Standing
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    Interrupted,
    add,
    new_agent,
    new_credential,
    new_event,
    new_key,
    new_operator_event,
    new_revocation,
    new_tenant,
    put,
)
from tests.contract.paging import items


async def test_a_block_that_raises_leaves_nothing_of_any_noun(storage: Storage) -> None:
    known = new_agent()
    kept = new_credential(known.agent_id)
    await put(storage, ACME, known, kept)
    agent, event, revocation = new_agent(), new_event(), new_revocation()

    async def change_and_fail() -> None:
        async with storage.unit(ACME) as unit:
            await add(unit, agent, new_credential(agent.agent_id), event, revocation)
            await unit.agents.save(replace(known, owner="changed", token_generation=9))
            await unit.credentials.revoke_all(known.agent_id, NOW)
            raise Interrupted

    with pytest.raises(Interrupted):
        await change_and_fail()
    reader = storage.read(ACME)
    assert await items(reader.agents.page) == [known]
    assert await items(reader.credentials.page) == [kept]
    assert await reader.audit.get(event.event_id, NOW) is None
    assert not await reader.revocations.contains(revocation.jti)
    await put(storage, ACME, agent)
    assert await reader.agents.get(agent.agent_id) == agent


async def test_a_unit_that_is_cancelled_leaves_nothing_and_holds_nobody_up(
    storage: Storage,
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    begun = asyncio.Event()

    async def change_and_wait() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.get(agent.agent_id)
            await unit.agents.save(replace(agent, owner="changed"))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(change_and_wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(agent.agent_id) == agent


async def test_what_a_unit_does_is_seen_by_itself_at_once_and_by_others_in_the_end(
    storage: Storage,
) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    event, revocation = new_event(), new_revocation()
    reader = storage.read(ACME)
    async with storage.unit(ACME) as unit:
        await add(unit, agent, credential, event, revocation)
        changed = replace(agent, status=AgentStatus.SUSPENDED)
        await unit.agents.save(changed)
        assert await unit.agents.get(agent.agent_id) == changed
        assert await unit.agents.share(agent.agent_id) == changed
        assert await unit.revocations.standing(
            revocation.jti, agent.agent_id, credential.credential_id
        ) == Standing(
            revoked=True,
            agent_status=AgentStatus.SUSPENDED,
            token_generation=0,
            credential=credential,
        )
        assert await unit.credentials.get(credential.credential_id) == credential
        assert await unit.revocations.add(revocation) is False
        assert await reader.agents.get(agent.agent_id) is None
        assert await reader.agents.by_email(agent.email) is None
        assert await reader.agents.get_many([agent.agent_id]) == {}
        assert await reader.agents.count() == 0
        assert await items(reader.agents.page) == []
        assert await reader.credentials.get(credential.credential_id) is None
        assert await items(reader.credentials.page) == []
        assert await reader.audit.get(event.event_id, NOW) is None
        assert await reader.audit.count(NOW) == 0
        assert not await reader.revocations.contains(revocation.jti)
        assert await reader.revocations.standing(uuid4(), agent.agent_id, uuid4()) is None
    assert await items(reader.agents.page) == [changed]
    assert await items(reader.credentials.page) == [credential]
    assert await reader.audit.get(event.event_id, NOW) == event
    assert await reader.revocations.contains(revocation.jti)


async def test_a_registry_unit_is_seen_when_it_is_done(storage: Storage) -> None:
    tenant, event, key = new_tenant("initech"), new_operator_event(), new_key()
    async with storage.registry_unit() as unit:
        await unit.tenants.add(tenant)
        await unit.operator_events.append(event)
        await unit.signing_keys.add(key)
        assert await unit.tenants.get("initech") == tenant
        assert await storage.registry.tenants.get("initech") is None
        assert await items(storage.registry.operator_events.page) == []
        assert list(await storage.registry.signing_keys.all()) == []
    assert await storage.registry.tenants.get("initech") == tenant
    assert await items(storage.registry.operator_events.page) == [event]
    assert list(await storage.registry.signing_keys.all()) == [key]


async def test_no_update_is_lost_between_units_on_one_row(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)

    async def raise_generation() -> None:
        async with storage.unit(ACME) as unit:
            held = await unit.agents.get(agent.agent_id)
            assert held is not None
            await checkpoint()  # lets the others run
            await unit.agents.save(replace(held, token_generation=held.token_generation + 1))

    await asyncio.gather(*(raise_generation() for _ in range(8)))
    read = await storage.read(ACME).agents.get(agent.agent_id)
    assert read == replace(agent, token_generation=8)


async def test_no_update_is_lost_between_units_on_one_credential(storage: Storage) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id, label="0")
    await put(storage, ACME, agent, credential)

    async def count_up() -> None:
        async with storage.unit(ACME) as unit:
            held = await unit.credentials.get(credential.credential_id)
            assert held is not None
            await checkpoint()  # lets the others run
            await unit.credentials.save(replace(held, label=f"{int(held.label or 0) + 1}"))

    await asyncio.gather(*(count_up() for _ in range(5)))
    read = await storage.read(ACME).credentials.get(credential.credential_id)
    assert read == replace(credential, label="5")


async def test_no_update_is_lost_between_registry_units(storage: Storage) -> None:
    first = await storage.registry.tenants.get("acme")
    assert first is not None

    async def raise_generation() -> None:
        async with storage.registry_unit() as unit:
            held = await unit.tenants.get("acme")
            assert held is not None
            await checkpoint()  # lets the others run
            await unit.tenants.save(replace(held, token_generation=held.token_generation + 1))

    await asyncio.gather(*(raise_generation() for _ in range(5)))
    assert await storage.registry.tenants.get("acme") == replace(
        first, token_generation=first.token_generation + 5
    )


async def test_a_row_read_in_a_unit_still_holds_when_the_unit_saves(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    holding, order = asyncio.Event(), list[str]()

    async def slow() -> None:
        async with storage.unit(ACME) as unit:
            held = await unit.agents.get(agent.agent_id)
            assert held is not None
            holding.set()
            for _ in range(20):
                await checkpoint()  # lets the other reach the row
            await storage.read(ACME).agents.get(agent.agent_id)
            order.append("slow")
            await unit.agents.save(replace(held, owner="slow"))

    async def quick() -> None:
        await holding.wait()
        async with storage.unit(ACME) as unit:
            held = await unit.agents.get(agent.agent_id)
            assert held is not None
            order.append(f"quick after {held.owner}")
            await unit.agents.save(replace(held, owner=f"quick after {held.owner}"))

    await asyncio.gather(slow(), quick())
    assert order == ["slow", "quick after slow"]
    read = await storage.read(ACME).agents.get(agent.agent_id)
    assert read == replace(agent, owner="quick after slow")


async def test_of_units_that_take_one_address_exactly_one_has_it(storage: Storage) -> None:
    rivals = [new_agent(email="one@agents.example") for _ in range(4)]
    results = await asyncio.gather(
        *(put(storage, ACME, rival) for rival in rivals), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [EmailTaken] * 3
    winner = rivals[results.index(None)]
    assert await items(storage.read(ACME).agents.page) == [winner]


async def test_of_units_that_add_a_signing_key_exactly_one_does(storage: Storage) -> None:
    async def add_signing() -> bool:
        async with storage.registry_unit() as unit:
            return await unit.signing_keys.add(new_key(status=SigningKeyStatus.SIGNING))

    assert sorted(await asyncio.gather(*(add_signing() for _ in range(4)))) == [False] * 3 + [True]
    assert len(await storage.registry.signing_keys.all()) == 1


async def test_of_units_that_revoke_one_token_exactly_one_is_new(storage: Storage) -> None:
    revocation = new_revocation()

    async def revoke() -> bool:
        async with storage.unit(ACME) as unit:
            return await unit.revocations.add(revocation)

    assert sorted(await asyncio.gather(*(revoke() for _ in range(4)))) == [False] * 3 + [True]


async def test_units_of_different_tenants_do_not_wait_for_each_other(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    await put(storage, GLOBEX, agent)
    async with storage.unit(ACME) as unit:
        held = await unit.agents.get(agent.agent_id)
        assert held is not None

        async def elsewhere() -> None:
            async with storage.unit(GLOBEX) as other:
                its = await other.agents.get(agent.agent_id)
                assert its is not None
                await other.agents.save(replace(its, owner="globex"))

        await asyncio.create_task(elsewhere())
        await unit.agents.save(replace(held, owner="acme"))
    assert await storage.read(ACME).agents.get(agent.agent_id) == replace(agent, owner="acme")
    assert await storage.read(GLOBEX).agents.get(agent.agent_id) == replace(agent, owner="globex")


async def test_a_unit_that_changes_nothing_changes_nothing(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with storage.unit(ACME):
        pass
    assert await items(storage.read(ACME).agents.page) == [agent]


async def test_a_row_that_a_unit_shares_stays_as_it_is_until_the_unit_ends(
    storage: Storage,
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    shared = asyncio.Event()

    async def change() -> None:
        await shared.wait()
        async with storage.unit(ACME) as unit:
            held = await unit.agents.get(agent.agent_id)
            assert held is not None
            await unit.agents.save(replace(held, status=AgentStatus.SUSPENDED))

    async def share() -> None:
        async with storage.unit(ACME) as unit:
            assert await unit.agents.share(agent.agent_id) == agent
            shared.set()
            for _ in range(20):
                # Round trips, in which the other would change it if it could.
                standing = await unit.revocations.standing(uuid4(), agent.agent_id, uuid4())
                assert standing is not None
                assert standing.agent_status is AgentStatus.ACTIVE

    await asyncio.gather(change(), share())
    read = await storage.read(ACME).agents.get(agent.agent_id)
    assert read == replace(agent, status=AgentStatus.SUSPENDED)


async def test_a_unit_that_shares_after_a_change_sees_the_change(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    changing = asyncio.Event()

    async def change() -> None:
        async with storage.unit(ACME) as unit:
            assert await unit.agents.get(agent.agent_id) == agent
            changing.set()
            await checkpoint()
            await unit.agents.save(replace(agent, token_generation=5))

    async def share() -> int:
        await changing.wait()
        async with storage.unit(ACME) as unit:
            await unit.agents.share(agent.agent_id)
            standing = await unit.revocations.standing(uuid4(), agent.agent_id, uuid4())
            assert standing is not None
            return standing.token_generation

    _, seen = await asyncio.gather(change(), share())
    assert seen == 5
