"""The one hook that names a tenant's tables: it is never passed by, and never mixes two tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db.backends import open_storage
from db.errors import InvalidPrefix, TenantNotBound
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.postgres.engine import asyncpg_url, create_engine, name_tenants, of_tenant
from db.postgres.rows import parameters
from db.settings import StorageSettings
from db.tables import agents, tenants
from tests.contract.cast import ACME, GLOBEX, NOW, new_agent, put
from tests.servers.databases import Database

_TOKEN = '"{t}'


@pytest.fixture
def settings(database: Database) -> StorageSettings:
    return StorageSettings.load(
        database_url=database.app_url,
        database_owner_url=database.owner_url,
        db_pool_size=3,
        db_max_overflow=0,
    )


@pytest.fixture
async def engine(settings: StorageSettings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(settings)
    yield made
    await made.dispose()


async def _emails(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(agents.c.email))).scalars())


async def _add(engine: AsyncEngine, **changes: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(agents), parameters(new_agent(**changes)))


async def test_a_statement_without_a_tenant_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(TenantNotBound):
        await _emails(engine)
    with pytest.raises(TenantNotBound):
        await _add(engine)
    assert await _emails(of_tenant(engine, ACME)) == []


@pytest.mark.parametrize("tenant", ["acme", b"acme", None, 'acme_agents" --'])
async def test_text_is_never_taken_for_a_tenant(engine: AsyncEngine, tenant: object) -> None:
    await _add(of_tenant(engine, ACME))
    with pytest.raises(TenantNotBound):
        await _emails(engine.execution_options(tenant=tenant))


@pytest.mark.parametrize("text", ['acme" cross join "globex', "Acme", "a" * 25, "", "tenants"])
def test_a_prefix_that_no_registry_row_can_hold_is_never_made(text: str) -> None:
    with pytest.raises(InvalidPrefix):
        TenantPrefix(text)


async def test_the_registry_needs_no_tenant(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        slugs = (await connection.execute(select(tenants.c.slug))).scalars()
    assert set(slugs) == {"acme", "globex"}


async def test_a_tenant_bound_on_the_engine_outlives_the_commit(engine: AsyncEngine) -> None:
    async with of_tenant(engine, ACME).connect() as connection:
        await connection.execute(insert(agents), parameters(new_agent(email="a@agents.example")))
        await connection.commit()
        await connection.execute(insert(agents), parameters(new_agent(email="b@agents.example")))
        await connection.commit()
    assert sorted(await _emails(of_tenant(engine, ACME))) == [
        "a@agents.example",
        "b@agents.example",
    ]
    assert await _emails(of_tenant(engine, GLOBEX)) == []


async def test_a_connection_left_by_one_tenant_carries_nothing_to_the_next(
    engine: AsyncEngine,
) -> None:
    """The pool hands the same connection to each of them."""
    await _add(of_tenant(engine, ACME), email="a@agents.example")
    assert await _emails(of_tenant(engine, GLOBEX)) == []
    with pytest.raises(TenantNotBound):
        await _emails(engine)


async def test_values_that_look_like_the_tokens_are_left_as_they_are(engine: AsyncEngine) -> None:
    async with of_tenant(engine, ACME).begin() as connection:
        await connection.execute(
            insert(agents),
            parameters(
                new_agent(
                    name=f"{_TOKEN}agents{_TOKEN}",
                    tools=(_TOKEN, '"{t}credentials"'),
                    metadata={f"{_TOKEN}key": f"{_TOKEN}agents"},
                )
            ),
        )
        row = (
            await connection.execute(select(agents.c.name, agents.c.tools, agents.c.metadata))
        ).one()
        found = await connection.execute(
            select(agents.c.name).where(agents.c.name == f"{_TOKEN}agents{_TOKEN}")
        )
        assert found.scalar_one() == row.name
    assert row.name == f"{_TOKEN}agents{_TOKEN}"
    assert row.tools == [_TOKEN, '"{t}credentials"']
    assert row.metadata == {f"{_TOKEN}key": f"{_TOKEN}agents"}


async def test_one_compiled_statement_serves_every_tenant(engine: AsyncEngine) -> None:
    cache: dict[object, object] = {}
    shared = engine.execution_options(compiled_cache=cache)
    assert await _emails(of_tenant(shared, ACME)) == []
    [compiled] = cache.values()
    assert await _emails(of_tenant(shared, GLOBEX)) == []
    assert list(cache.values()) == [compiled]


async def test_an_engine_of_the_applications_own_is_given_the_hook_too(
    settings: StorageSettings,
) -> None:
    own = create_async_engine(asyncpg_url(settings.database_url))
    name_tenants(own)
    name_tenants(own)
    try:
        assert await _emails(of_tenant(own, ACME)) == []
        with pytest.raises(TenantNotBound):
            await _emails(own)
    finally:
        await own.dispose()


async def test_ten_tenants_at_once_over_one_small_pool_never_mix(
    settings: StorageSettings,
) -> None:
    storage = await open_storage(settings)
    slugs = [TenantPrefix(f"team{number}") for number in range(10)]
    for tenant in slugs:
        await storage.upkeep.provision(tenant, NOW)

    async def live(tenant: TenantPrefix) -> list[set[str]]:
        seen = []
        for _ in range(8):
            await put(storage, tenant, new_agent(owner=tenant.value))
            page = await storage.read(tenant).agents.page(PageRequest(first=100))
            seen.append({agent.owner for agent in page.items})
            assert await storage.read(tenant).agents.count() == len(seen)
        return seen

    try:
        lives = await asyncio.gather(*(live(tenant) for tenant in slugs))
    finally:
        await storage.close()
    for tenant, seen in zip(slugs, lives, strict=True):
        assert seen == [{tenant.value}] * 8
