"""Agents: what is written reads back, and an address is given once."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import pytest

from db.contract import Storage
from db.errors import EmailTaken, IdTaken, NotFound
from db.records import Agent, AgentStatus, AgentType, DeploymentEnv, JSONObject
from tests.contract.cast import (
    ACME,
    GLOBEX,
    after,
    new_agent,
    put,
    put_and_interrupt,
    whole_agent,
)
from tests.contract.paging import (
    EVERYTHING,
    items,
)


@pytest.mark.parametrize("agent", [new_agent(), whole_agent()], ids=["bare", "whole"])
async def test_an_added_agent_reads_back_as_it_was_written(storage: Storage, agent: Agent) -> None:
    await put(storage, ACME, agent)
    agents = storage.read(ACME).agents
    assert await agents.get(agent.agent_id) == agent
    assert await agents.by_email(agent.email) == agent
    assert await agents.get_many([agent.agent_id]) == {agent.agent_id: agent}
    assert await items(agents.page) == [agent]
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(agent.agent_id) == agent


@pytest.mark.parametrize(
    "value", [{}, [], 0, False, "", 0.0, "null", [None], {"": None}, 2**53 - 1, -1.5e-300]
)
async def test_a_json_value_is_not_taken_for_an_absent_one(storage: Storage, value: object) -> None:
    agent = new_agent(permissions=value, metadata=value)
    await put(storage, ACME, agent)
    read = await storage.read(ACME).agents.get(agent.agent_id)
    assert read is not None
    for kept in (read.permissions, read.metadata):
        assert kept == value
        assert type(kept) is type(value)


async def test_json_comes_back_as_the_same_text_whatever_the_order_it_was_written_in(
    storage: Storage,
) -> None:
    members: JSONObject = {
        "bb": -0.0,
        "é": 1,
        "c": 1.0,
        "": True,
        "aaa": {"z": [-0.0, {"y": 0, "x": 0}], "b": 0},
    }
    written = new_agent(metadata=members, permissions=[members])
    changed = replace(written, metadata={name: members[name] for name in reversed(members)})
    await put(storage, ACME, written)
    expected = (
        '{"": true, "c": 1.0, "bb": 0.0, "é": 1, "aaa": {"b": 0, "z": [0.0, {"x": 0, "y": 0}]}}'
    )
    for agent in (written, changed):
        async with storage.unit(ACME) as unit:
            await unit.agents.save(agent)
        read = await storage.read(ACME).agents.get(agent.agent_id)
        assert read is not None
        assert json.dumps(read.metadata, ensure_ascii=False) == expected
        assert json.dumps(read.permissions, ensure_ascii=False) == f"[{expected}]"


async def test_every_word_of_the_vocabularies_can_be_kept(storage: Storage) -> None:
    agents = [new_agent(agent_type=each) for each in AgentType]
    agents += [new_agent(deployment_env=each) for each in DeploymentEnv]
    agents += [new_agent(status=each) for each in AgentStatus]
    await put(storage, ACME, *agents)
    read = await storage.read(ACME).agents.get_many([agent.agent_id for agent in agents])
    assert read == {agent.agent_id: agent for agent in agents}


async def test_an_unknown_agent_is_none(storage: Storage) -> None:
    await put(storage, ACME, new_agent())
    agents = storage.read(ACME).agents
    assert await agents.get(uuid4()) is None
    assert await agents.by_email("nobody@agents.example") is None
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(uuid4()) is None


async def test_many_agents_are_those_that_exist(storage: Storage) -> None:
    first, second = new_agent(), new_agent()
    await put(storage, ACME, first, second)
    agents = storage.read(ACME).agents
    ids = [second.agent_id, uuid4(), first.agent_id, second.agent_id]
    assert await agents.get_many(ids) == {first.agent_id: first, second.agent_id: second}
    assert await agents.get_many([uuid4()]) == {}
    assert await agents.get_many([]) == {}


async def test_an_address_is_compared_byte_by_byte(storage: Storage) -> None:
    upper = new_agent(email="Ann+1@agents.example")
    lower = new_agent(email="ann+1@agents.example")
    await put(storage, ACME, upper, lower)
    agents = storage.read(ACME).agents
    assert await agents.by_email(upper.email) == upper
    assert await agents.by_email(lower.email) == lower
    assert await agents.by_email("ANN+1@agents.example") is None
    assert await agents.by_email("ann%@agents.example") is None


@pytest.mark.parametrize("status", list(AgentStatus))
async def test_an_address_belongs_to_its_first_agent_whatever_its_status(
    storage: Storage, status: AgentStatus
) -> None:
    first = new_agent(status=status)
    await put(storage, ACME, first)
    with pytest.raises(EmailTaken) as refusal:
        await put(storage, ACME, new_agent(email=first.email))
    assert (refusal.value.code, refusal.value.path) == ("EMAIL_TAKEN", ("email",))
    assert await items(storage.read(ACME).agents.page) == [first]


async def test_an_address_can_be_taken_once_in_a_unit(storage: Storage) -> None:
    first = new_agent()
    with pytest.raises(EmailTaken):
        await put(storage, ACME, first, new_agent(email=first.email))
    assert await items(storage.read(ACME).agents.page) == []


async def test_an_address_can_be_taken_once_in_each_tenant(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    await put(storage, GLOBEX, agent)
    assert await storage.read(GLOBEX).agents.by_email(agent.email) == agent


async def test_an_address_whose_agent_was_not_committed_is_free(storage: Storage) -> None:
    agent = new_agent()
    await put_and_interrupt(storage, ACME, agent)
    second = new_agent(email=agent.email)
    await put(storage, ACME, second)
    assert await storage.read(ACME).agents.by_email(agent.email) == second


@pytest.mark.parametrize("same_address", [True, False])
async def test_an_id_is_never_added_twice(storage: Storage, same_address: bool) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    second = new_agent(agent_id=first.agent_id, owner="someone else")
    if not same_address:
        second = replace(second, email="other@agents.example")
    with pytest.raises(IdTaken):
        await put(storage, ACME, second)
    assert await items(storage.read(ACME).agents.page) == [first]
    assert await storage.read(ACME).agents.by_email("other@agents.example") is None


async def test_saving_replaces_every_field_but_the_three_that_never_change(
    storage: Storage,
) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    changed = whole_agent(
        agent_id=first.agent_id,
        email="moved@agents.example",
        created_at=after(60),
        updated_at=after(120),
        agent_type=AgentType.CUSTOM,
        version="2.0.0",
        capabilities=("b:c",),
        owner="finance",
        deployment_env=DeploymentEnv.STAGING,
        status=AgentStatus.SUSPENDED,
    )
    async with storage.unit(ACME) as unit:
        await unit.agents.save(changed)
    agents = storage.read(ACME).agents
    expected = replace(changed, email=first.email, created_at=first.created_at)
    assert await agents.get(first.agent_id) == expected
    assert await agents.by_email(first.email) == expected
    assert await agents.by_email("moved@agents.example") is None
    assert await items(agents.page) == [expected]


async def test_saving_can_empty_what_may_be_empty(storage: Storage) -> None:
    first = whole_agent()
    await put(storage, ACME, first)
    bare = replace(
        new_agent(agent_id=first.agent_id), email=first.email, created_at=first.created_at
    )
    async with storage.unit(ACME) as unit:
        await unit.agents.save(bare)
    assert await storage.read(ACME).agents.get(first.agent_id) == bare


async def test_saving_an_unknown_agent_is_refused(storage: Storage) -> None:
    known = new_agent()
    await put(storage, ACME, known)
    with pytest.raises(NotFound) as refusal:
        async with storage.unit(ACME) as unit:
            await unit.agents.save(new_agent(email=known.email))
    assert refusal.value.code == "NOT_FOUND"
    assert await items(storage.read(ACME).agents.page) == [known]


async def test_an_address_is_not_freed_by_saving_another(storage: Storage) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    async with storage.unit(ACME) as unit:
        await unit.agents.save(replace(first, email="moved@agents.example"))
    await put(storage, ACME, new_agent(email="moved@agents.example"))
    with pytest.raises(EmailTaken):
        await put(storage, ACME, new_agent(email=first.email))


async def test_what_is_read_or_was_written_cannot_rewrite_an_agent(storage: Storage) -> None:
    original = new_agent(metadata={"list": [1]}, permissions=[{"a": 1}])
    written = replace(original, metadata={"list": [1]}, permissions=[{"a": 1}])
    await put(storage, ACME, written)
    reader = storage.read(ACME).agents
    async with storage.unit(ACME) as unit:
        reads = [
            written,
            await reader.get(original.agent_id),
            await reader.by_email(original.email),
            (await reader.get_many([original.agent_id]))[original.agent_id],
            (await reader.page(EVERYTHING)).items[0],
            (await reader.page(EVERYTHING, wanted=("metadata", "permissions"))).items[0],
            await unit.agents.get(original.agent_id),
        ]
        for read in reads:
            assert read is not None
            assert isinstance(read.metadata, dict)
            assert isinstance(read.permissions, list)
            read.metadata.clear()
            read.permissions.append("everything")
    assert await reader.get(original.agent_id) == original
