"""The end of a unit: after an error, and after its block, nothing can be asked of it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from db.contract import Storage, UnitOfWork
from db.errors import EmailTaken, IdTaken, Misused, NotFound, UnitOver
from tests.contract.cast import (
    ACME,
    NOW,
    Interrupted,
    Row,
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
                lambda: unit.credentials.rehash(uuid4(), "was", "is", "beef"),
                lambda: unit.credentials.used({uuid4(): NOW}),
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
                lambda: unit.signing_keys.get("kid"),
                lambda: unit.signing_keys.save(new_key()),
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
