"""One storage, both backends: everything else in this folder sees only the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from db.backends import open_storage
from db.contract import Storage
from db.settings import StorageSettings
from tests.contract.cast import ACME, GLOBEX, NOW, new_tenant
from tests.servers.databases import Database


@pytest.fixture(params=["memory", "postgres"])
def settings(request: pytest.FixtureRequest) -> StorageSettings:
    if request.param == "memory":
        return StorageSettings.load()
    database: Database = request.getfixturevalue("database")
    return StorageSettings.load(
        database_url=database.app_url, database_owner_url=database.owner_url
    )


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    """With the tenants acme and globex, whose tables are empty."""
    opened = await open_storage(settings)
    for tenant in (ACME, GLOBEX):
        # A database has them already; a new process has nothing.
        if await opened.registry.tenants.get(tenant.value) is None:
            await opened.upkeep.provision(tenant, NOW)
            async with opened.registry_unit() as unit:
                await unit.tenants.add(new_tenant(tenant.value))
    yield opened
    await opened.close()
