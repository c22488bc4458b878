"""Units of work: all or nothing, seen only when done, one after another on the same row."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage, UnitOfWork
from db.errors import EmailTaken, IdTaken, Misused, NotFound, TenantNotProvisioned, UnitOver
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.records import AgentStatus, SigningKeyStatus
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    Interrupted,
    Row,
    add,
    after,
    new_agent,
    new_credential,
    new_event,
    new_key,
    new_operator_event,
    new_revocation,
    new_tenant,
    put,
)
from tests.contract.paging import EVERYTHING, items


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


async def _swallow_an_error(unit: UnitOfWork) -> None:
    with pytest.raises(NotFound):
        await unit.agents.save(new_agent())


async def test_a_unit_is_over_after_an_error_even_if_its_block_goes_on(storage: Storage) -> None:
    agent = new_agent()

    async def go_on() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(agent)
            await _swallow_an_error(unit)

    with pytest.raises(UnitOver):
        await go_on()
    assert await items(storage.read(ACME).agents.page) == []


async def test_nothing_can_be_asked_of_a_unit_after_an_error(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)

    async def go_on() -> None:
        async with storage.unit(ACME) as unit:
            await _swallow_an_error(unit)
            for act in (
                lambda: unit.agents.get(agent.agent_id),
                lambda: unit.agents.add(new_agent()),
                lambda: unit.agents.save(agent),
                lambda: unit.credentials.get(uuid4()),
                lambda: unit.credentials.add(new_credential(agent.agent_id)),
                lambda: unit.credentials.of_client(agent.agent_id, NOW),
                lambda: unit.credentials.save(new_credential(agent.agent_id)),
                lambda: unit.credentials.revoke_all(agent.agent_id, NOW),
                lambda: unit.audit.append(new_event()),
                lambda: unit.revocations.add(new_revocation()),
            ):
                with pytest.raises(UnitOver):
                    await act()
            raise Interrupted

    with pytest.raises(Interrupted):
        await go_on()
    assert await items(storage.read(ACME).agents.page) == [agent]


@pytest.mark.parametrize("refusal", [EmailTaken, IdTaken, NotFound])
async def test_every_refusal_ends_its_unit(storage: Storage, refusal: type[Exception]) -> None:
    known = new_agent()
    await put(storage, ACME, known)
    acts: dict[type[Exception], Row] = {
        EmailTaken: new_agent(email=known.email),
        IdTaken: new_agent(agent_id=known.agent_id),
        NotFound: new_credential(uuid4()),
    }

    async def go_on() -> None:
        async with storage.unit(ACME) as unit:
            with pytest.raises(refusal):
                await add(unit, acts[refusal])

    with pytest.raises(UnitOver):
        await go_on()
    assert await items(storage.read(ACME).agents.page) == [known]


async def test_a_unit_cannot_be_used_outside_its_block(storage: Storage) -> None:
    async with storage.unit(ACME) as unit:
        pass
    with pytest.raises(UnitOver):
        await unit.agents.add(new_agent())
    assert await storage.read(ACME).agents.count() == 0
    async with storage.registry_unit() as registry:
        pass
    with pytest.raises(UnitOver):
        await registry.tenants.add(new_tenant("initech"))
    assert await storage.registry.tenants.get("initech") is None


async def test_a_registry_unit_is_over_after_an_error(storage: Storage) -> None:
    async def go_on() -> None:
        async with storage.registry_unit() as unit:
            await unit.operator_events.append(new_operator_event())
            with pytest.raises(NotFound):
                await unit.tenants.save(new_tenant("initech"))
            for act in (
                lambda: unit.tenants.get("acme"),
                lambda: unit.tenants.add(new_tenant("initech")),
                lambda: unit.operator_events.append(new_operator_event()),
                lambda: unit.signing_keys.add(new_key()),
            ):
                with pytest.raises(UnitOver):
                    await act()

    with pytest.raises(UnitOver):
        await go_on()
    assert await items(storage.registry.operator_events.page) == []


async def test_a_unit_inside_a_unit_is_refused_and_ends_only_itself(storage: Storage) -> None:
    agent = new_agent()
    async with storage.unit(ACME) as unit:
        await unit.agents.add(agent)
        with pytest.raises(Misused):
            async with storage.unit(ACME):
                pass
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent
    async with storage.registry_unit():
        with pytest.raises(Misused):
            async with storage.registry_unit():
                pass


async def test_a_unit_that_changes_nothing_changes_nothing(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with storage.unit(ACME):
        pass
    assert await items(storage.read(ACME).agents.page) == [agent]


UNKNOWN = TenantPrefix("initech")


async def test_a_tenant_that_was_never_provisioned_has_no_store(storage: Storage) -> None:
    async def write() -> None:
        async with storage.unit(UNKNOWN) as unit:
            await unit.agents.add(new_agent())

    with pytest.raises(TenantNotProvisioned):
        await write()
    reads = (
        lambda: storage.read(UNKNOWN).agents.get(uuid4()),
        lambda: storage.read(UNKNOWN).agents.page(EVERYTHING),
        lambda: storage.read(UNKNOWN).credentials.count(),
        lambda: storage.read(UNKNOWN).audit.page(PageRequest(), NOW),
        lambda: storage.read(UNKNOWN).revocations.contains(uuid4()),
        lambda: storage.read(UNKNOWN).revocations.standing(uuid4(), uuid4(), uuid4()),
    )
    for read in reads:
        with pytest.raises(TenantNotProvisioned):
            await read()


async def test_provisioning_makes_an_empty_tenant_and_leaves_the_registry_alone(
    storage: Storage,
) -> None:
    before = await items(storage.registry.tenants.page)
    revision = await storage.provision(UNKNOWN, NOW)
    assert 1 <= len(revision) <= 64
    assert await items(storage.read(UNKNOWN).agents.page) == []
    agent = new_agent()
    await put(storage, UNKNOWN, agent, new_credential(agent.agent_id), new_event())
    assert await items(storage.read(UNKNOWN).agents.page) == [agent]
    assert await items(storage.registry.tenants.page) == before


async def test_provisioning_again_is_harmless(storage: Storage) -> None:
    agent, event = new_agent(), new_event()
    await put(storage, ACME, agent, event)
    first = await storage.provision(ACME, NOW)
    assert await storage.provision(ACME, after(60)) == first
    assert await items(storage.read(ACME).agents.page) == [agent]
    assert await storage.read(ACME).audit.get(event.event_id, NOW) == event


async def test_a_reader_made_before_its_tenant_reads_it_afterwards(storage: Storage) -> None:
    reader = storage.read(UNKNOWN)
    await storage.provision(UNKNOWN, NOW)
    assert await reader.agents.count() == 0


async def test_storage_answers_and_can_be_closed_twice(storage: Storage) -> None:
    await storage.check()
    await storage.close()
    await storage.close()
