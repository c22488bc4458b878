"""What PostgreSQL refuses becomes an error of ours, which says no more than it should."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from db.contract import Storage
from db.errors import AgentIdPError, EmailTaken, Misconfigured, Unavailable
from db.pages import PageRequest
from db.postgres.engine import asyncpg_url
from db.postgres.storage import PostgresStorage
from db.records import Agent, CredentialStatus
from tests.contract.cast import (
    ACME,
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    new_tenant,
    put,
)
from tests.db.postgres import execute, opened, settings_of
from tests.servers.databases import Database


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    async with opened(settings_of(database)) as storage:
        yield storage


@asynccontextmanager
async def _sessions_with(database: Database, **server_settings: str) -> AsyncIterator[Storage]:
    """Storage whose sessions are set as an administrator could have set them for the role."""
    engine = create_async_engine(
        asyncpg_url(database.app_url), connect_args={"server_settings": server_settings}
    )
    try:
        yield PostgresStorage(engine, settings_of(database), owns_engine=False)
    finally:
        await engine.dispose()


async def _save(storage: Storage, agent: Agent) -> None:
    async with storage.unit(ACME) as unit:
        await unit.agents.save(agent)


async def test_a_statement_that_takes_too_long_is_unavailable(
    database: Database, storage: Storage
) -> None:
    agent = new_agent()
    moved = replace(agent, owner="other")
    await put(storage, ACME, agent)
    async with _sessions_with(database, statement_timeout="50ms") as impatient:
        async with storage.unit(ACME) as unit:
            await unit.agents.get(agent.agent_id)
            with pytest.raises(Unavailable, match="too long"):
                await _save(impatient, moved)
        assert await storage.read(ACME).agents.get(agent.agent_id) == agent
        await _save(impatient, moved)
    assert await storage.read(ACME).agents.get(agent.agent_id) == moved


async def test_an_answer_that_takes_too_long_is_unavailable(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = new_agent()
    moved = replace(agent, owner="other")
    await put(storage, ACME, agent)
    monkeypatch.setattr("db.postgres.engine._COMMAND_TIMEOUT", 0.05)
    async with opened(settings_of(database)) as impatient:
        async with storage.unit(ACME) as unit:
            await unit.agents.get(agent.agent_id)
            with pytest.raises(Unavailable, match="in time"):
                await _save(impatient, moved)
        assert await storage.read(ACME).agents.get(agent.agent_id) == agent
        await _save(impatient, moved)
    assert await storage.read(ACME).agents.get(agent.agent_id) == moved


async def test_a_lock_that_is_not_to_be_had_is_unavailable(
    database: Database, storage: Storage
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with (
        _sessions_with(database, lock_timeout="50ms") as impatient,
        storage.unit(ACME) as unit,
    ):
        await unit.agents.get(agent.agent_id)
        with pytest.raises(Unavailable, match="lock"):
            await _save(impatient, replace(agent, owner="other"))
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent


async def test_of_two_units_that_wait_for_each_other_one_goes_through(storage: Storage) -> None:
    first, second = new_agent(), new_agent()
    await put(storage, ACME, first, second)
    both_hold = asyncio.Barrier(2)

    async def give(held: Agent, saved: Agent, owner: str) -> str:
        async with storage.unit(ACME) as unit:
            await unit.agents.get(held.agent_id)
            await both_hold.wait()
            await unit.agents.save(replace(saved, owner=owner))
        return owner

    outcomes = await asyncio.gather(
        give(first, second, "a"), give(second, first, "b"), return_exceptions=True
    )
    [loser] = [each for each in outcomes if isinstance(each, Exception)]
    [winner] = [each for each in outcomes if isinstance(each, str)]
    assert isinstance(loser, Unavailable)
    page = await storage.read(ACME).agents.page(PageRequest())
    assert sorted(agent.owner for agent in page.items) == sorted([winner, first.owner])


async def test_a_database_that_takes_no_changes_can_still_be_read(
    database: Database, storage: Storage
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with _sessions_with(database, default_transaction_read_only="on") as standby:
        with pytest.raises(Unavailable, match="takes no changes"):
            await put(standby, ACME, new_agent())
        assert await standby.read(ACME).agents.get(agent.agent_id) == agent
    assert await storage.read(ACME).agents.count() == 1


async def test_an_event_of_a_month_without_a_partition_is_unavailable(storage: Storage) -> None:
    in_three_years = after(3 * 366 * 24 * 3600)
    with pytest.raises(Unavailable, match="no partition"):
        await put(storage, ACME, new_agent(), new_event(), new_event(in_three_years))
    assert await storage.read(ACME).agents.count() == 0
    assert await storage.read(ACME).audit.count(NOW) == 0


async def test_a_type_changed_under_a_prepared_statement_costs_one_try(
    database: Database, storage: Storage
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent
    await execute(database, "ALTER TABLE acme_agents ALTER COLUMN owner TYPE text")
    with pytest.raises(Unavailable, match="prepared anew"):
        await storage.read(ACME).agents.get(agent.agent_id)
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent


async def test_a_conflict_is_known_by_the_shards_name_of_its_constraint(
    database: Database, storage: Storage
) -> None:
    """Citus puts the number of the shard behind the name."""
    await _rename_constraint(database, "acme_idx_agents_email_102008")
    await put(storage, ACME, new_agent(email="a@agents.example"))
    with pytest.raises(EmailTaken):
        await put(storage, ACME, new_agent(email="a@agents.example"))
    assert await storage.read(ACME).agents.count() == 1


async def test_a_constraint_of_another_tenants_name_is_no_conflict_of_this_one(
    database: Database, storage: Storage
) -> None:
    await _rename_constraint(database, "initech_idx_agents_email")
    await put(storage, ACME, new_agent(email="a@agents.example"))
    with pytest.raises(Misconfigured, match="initech_idx_agents_email"):
        await put(storage, ACME, new_agent(email="a@agents.example"))
    assert await storage.read(ACME).agents.count() == 1


async def _rename_constraint(database: Database, name: str) -> None:
    rename = f"ALTER TABLE acme_agents RENAME CONSTRAINT acme_idx_agents_email TO {name}"
    await execute(database, rename)


async def test_a_refused_row_is_in_no_error_and_no_traceback(storage: Storage) -> None:
    """PostgreSQL shows the whole row in the detail of its complaint."""
    agent = new_agent()
    credential = replace(
        new_credential(agent.agent_id, secret_hash="$2b$12$never-to-be-seen"),
        status=cast(CredentialStatus, "stolen"),
    )
    with pytest.raises(Misconfigured, match="acme_credentials_status_check") as caught:
        await put(storage, ACME, agent, credential)
    told = "".join(traceback.format_exception(caught.value))
    for hidden in ("never-to-be-seen", "stolen", agent.email, "INSERT INTO"):
        assert hidden not in told
    assert await storage.read(ACME).agents.count() == 0


async def test_a_missing_right_names_the_table(database: Database, storage: Storage) -> None:
    await execute(database, f"REVOKE SELECT ON acme_agents FROM {database.app_role}")
    with pytest.raises(Misconfigured, match="permission denied for table acme_agents"):
        await storage.read(ACME).agents.count()


async def test_of_five_processes_that_register_one_slug_one_does(database: Database) -> None:
    async def register(name: str) -> str:
        async with (
            opened(settings_of(database)) as storage,
            storage.registry_unit() as unit,
        ):
            await unit.tenants.add(new_tenant("initech", display_name=name))
        return name

    async def code_of(name: str) -> str:
        try:
            return await register(name)
        except AgentIdPError as error:
            return error.code

    outcomes = await asyncio.gather(*(code_of(f"Team {number}") for number in range(5)))
    [winner] = [each for each in outcomes if each != "SLUG_TAKEN"]
    async with opened(settings_of(database)) as storage:
        tenant = await storage.registry.tenants.get("initech")
    assert tenant == new_tenant("initech", display_name=winner)
