"""Which storage the settings name, and whose engine it closes."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.backends import open_storage
from db.contract import Storage
from db.errors import TenantNotProvisioned
from db.postgres.engine import create_engine
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW, new_agent, put
from tests.servers.databases import Database


async def kept_by_another(storage: Storage, database: Database) -> bool:
    """Whether what one storage commits is there for the next one on `database`."""
    agent = new_agent()
    await put(storage, ACME, agent)
    other = await open_storage(StorageSettings.load(database_url=database.app_url))
    found = await other.read(ACME).agents.get(agent.agent_id)
    await other.close()
    return found == agent


async def test_storage_is_in_memory_unless_the_settings_say_otherwise(database: Database) -> None:
    storage = await open_storage(StorageSettings.load())
    with pytest.raises(TenantNotProvisioned):
        await storage.read(ACME).agents.count()
    await storage.upkeep.provision(ACME, NOW)
    assert not await kept_by_another(storage, database)


async def test_a_url_of_a_database_is_where_storage_is(database: Database) -> None:
    storage = await open_storage(StorageSettings.load(database_url=database.app_url))
    assert await kept_by_another(storage, database)
    await storage.close()


@pytest.mark.parametrize("url", ["memory", "database"])
async def test_an_engine_handed_over_is_used_whatever_the_url_and_left_open(
    database: Database, url: str
) -> None:
    settings = StorageSettings.load(database_url=database.app_url)
    engine = create_engine(settings)
    if url == "memory":
        settings = StorageSettings.load()
    storage = await open_storage(settings, engine)
    assert await kept_by_another(storage, database)
    pool = engine.pool
    await storage.close()
    assert engine.pool is pool, "disposing would have replaced it"
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()
