"""A server that is not there, not ready or gone meanwhile: nothing is answered, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from db.contract import Storage, TenantReader, UnitOfWork
from db.cuts import LEAST_ID, CutKind
from db.errors import Misconfigured, TenantNotProvisioned, Unavailable
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.settings import StorageSettings
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    new_agent,
    new_credential,
    new_event,
    new_operator_event,
    new_revocation,
    put,
)
from tests.db.postgres import cut, execute, opened, settings_of
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

READS: dict[str, Callable[[TenantReader], Awaitable[object]]] = {
    "agents.get": lambda read: read.agents.get(uuid4()),
    "agents.get_many": lambda read: read.agents.get_many([uuid4()]),
    "agents.by_email": lambda read: read.agents.by_email("a@agents.example"),
    "agents.page": lambda read: read.agents.page(PageRequest()),
    "agents.count": lambda read: read.agents.count(),
    "credentials.get": lambda read: read.credentials.get(uuid4()),
    "credentials.of_client": lambda read: read.credentials.of_client(uuid4(), NOW),
    "credentials.page": lambda read: read.credentials.page(PageRequest()),
    "credentials.pages": lambda read: read.credentials.pages([], PageRequest()),
    "credentials.count": lambda read: read.credentials.count(),
    "audit.get": lambda read: read.audit.get(uuid4(), NOW),
    "audit.page": lambda read: read.audit.page(PageRequest(), NOW),
    "audit.pages": lambda read: read.audit.pages([uuid4()], PageRequest(), NOW),
    "audit.count": lambda read: read.audit.count(NOW),
    "revocations.contains": lambda read: read.revocations.contains(uuid4()),
    "revocations.get": lambda read: read.revocations.get(uuid4()),
    "revocations.standing": lambda read: read.revocations.standing(uuid4(), uuid4(), uuid4()),
    "revocations.cuts": lambda read: read.revocations.cuts(CutKind.TOKEN, NOW, None, LEAST_ID, 10),
    "revocations.recent_cuts": lambda read: read.revocations.recent_cuts(NOW, NOW, 10),
}
CHANGES: dict[str, Callable[[UnitOfWork], Awaitable[object]]] = {
    "agents.add": lambda unit: unit.agents.add(new_agent()),
    "agents.get": lambda unit: unit.agents.get(uuid4()),
    "agents.save": lambda unit: unit.agents.save(new_agent()),
    "credentials.add": lambda unit: unit.credentials.add(new_credential(uuid4())),
    "credentials.get": lambda unit: unit.credentials.get(uuid4()),
    "credentials.of_client": lambda unit: unit.credentials.of_client(uuid4(), NOW),
    "credentials.save": lambda unit: unit.credentials.save(new_credential(uuid4())),
    "credentials.revoke_all": lambda unit: unit.credentials.revoke_all(uuid4(), NOW),
    "audit.append": lambda unit: unit.audit.append(new_event()),
    "revocations.add": lambda unit: unit.revocations.add(new_revocation()),
}
UNKNOWN = TenantPrefix("initech")


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    async with opened(settings_of(database)) as storage:
        yield storage


@pytest.fixture
async def unreachable(place: Path) -> AsyncIterator[Storage]:
    """Nobody listens in this folder."""
    url = f"postgresql://nobody@/nothing?host={place}"
    async with opened(StorageSettings.load(database_url=url)) as storage:
        yield storage


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own, which it may stop."""
    with temporary_place() as room:
        home = room / "postgres"
        home.mkdir(mode=0o711)
        started = Postgres(home)
        started.start()
        yield started
        started.stop()


async def _change(storage: Storage, tenant: TenantPrefix, name: str) -> None:
    async with storage.unit(tenant) as unit:
        await CHANGES[name](unit)


@pytest.mark.parametrize("name", READS)
async def test_no_reader_answers_without_the_server(unreachable: Storage, name: str) -> None:
    with pytest.raises(Unavailable):
        await READS[name](unreachable.read(ACME))


@pytest.mark.parametrize("name", CHANGES)
async def test_no_store_answers_without_the_server(unreachable: Storage, name: str) -> None:
    with pytest.raises(Unavailable):
        await _change(unreachable, ACME, name)


async def test_the_registry_does_not_answer_without_the_server(unreachable: Storage) -> None:
    for answer in (
        unreachable.check(),
        unreachable.registry.tenants.get("acme"),
        unreachable.registry.tenants.page(PageRequest()),
        unreachable.registry.tenants.count(),
        unreachable.registry.operator_events.page(PageRequest()),
        unreachable.registry.signing_keys.all(),
        _append(unreachable),
        unreachable.upkeep.provision(ACME, NOW),
    ):
        with pytest.raises(Unavailable):
            await answer


async def _append(storage: Storage) -> None:
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(new_operator_event())


@pytest.mark.parametrize("name", READS)
async def test_every_reader_knows_a_tenant_without_tables(storage: Storage, name: str) -> None:
    with pytest.raises(TenantNotProvisioned):
        await READS[name](storage.read(UNKNOWN))


@pytest.mark.parametrize("name", CHANGES)
async def test_every_store_knows_a_tenant_without_tables(storage: Storage, name: str) -> None:
    with pytest.raises(TenantNotProvisioned):
        await _change(storage, UNKNOWN, name)


async def test_a_registry_without_tables_says_what_to_run(empty_database: Database) -> None:
    async with opened(settings_of(empty_database)) as storage:
        with pytest.raises(Misconfigured, match="db migrate"):
            await storage.registry.tenants.get("acme")
        with pytest.raises(Unavailable, match="db migrate"):
            await storage.check()


async def test_a_registry_at_head_is_well(storage: Storage) -> None:
    await storage.check()


async def test_a_database_that_is_not_there_is_unavailable(database: Database) -> None:
    missing = make_url(database.app_url).set(database="nowhere")
    url = missing.render_as_string(hide_password=False)
    async with opened(StorageSettings.load(database_url=url)) as storage:
        with pytest.raises(Unavailable, match="no such database"):
            await storage.registry.tenants.get("acme")


async def test_a_server_out_of_connections_is_unavailable(database: Database) -> None:
    name = make_url(database.owner_url).database
    await execute(database, f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    async with opened(settings_of(database)) as storage:
        with pytest.raises(Unavailable, match="out of connections"):
            await storage.registry.tenants.get("acme")
    # Whoever looks through it afterwards needs one.
    beside = make_url(database.owner_url).set(database="postgres")
    elsewhere = replace(database, owner_url=beside.render_as_string(hide_password=False))
    await execute(elsewhere, f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


async def test_a_pool_with_no_connection_left_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.postgres.engine._CONNECT_TIMEOUT", 0.05)
    async with opened(settings_of(database, db_pool_size=1, db_max_overflow=1)) as storage:
        async with storage.unit(ACME), storage.unit(GLOBEX):
            with pytest.raises(Unavailable, match="in use"):
                await storage.read(ACME).agents.count()
        assert await storage.read(ACME).agents.count() == 0


async def test_a_connection_cut_in_a_unit_changes_nothing(
    database: Database, storage: Storage
) -> None:
    async def unit_cut_between_two_statements() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(new_agent())
            await cut(database)
            await unit.agents.add(new_agent())

    with pytest.raises(Unavailable):
        await unit_cut_between_two_statements()
    assert await storage.read(ACME).agents.count() == 0


async def test_a_connection_cut_before_the_commit_changes_nothing(
    database: Database, storage: Storage
) -> None:
    async def unit_cut_at_its_end() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(new_agent())
            await cut(database)

    with pytest.raises(Unavailable):
        await unit_cut_at_its_end()
    assert await storage.read(ACME).agents.count() == 0


async def test_what_a_block_raises_is_heard_though_the_connection_was_cut(
    database: Database, storage: Storage
) -> None:
    async def failing_unit() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(new_agent())
            await cut(database)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing_unit()
    assert await storage.read(ACME).agents.count() == 0


async def test_connections_cut_while_they_wait_in_the_pool_are_noticed_by_nobody(
    database: Database, storage: Storage
) -> None:
    async with AsyncExitStack() as at_once:
        for number in range(3):
            await at_once.enter_async_context(storage.unit(TenantPrefix(f"team{number}")))
    await cut(database)
    for _ in range(3):
        assert await storage.read(ACME).agents.count() == 0
    await cut(database)
    await put(storage, ACME, new_agent())
    assert await storage.read(ACME).agents.count() == 1


def test_a_server_that_comes_back_is_used_again(server: Postgres) -> None:
    """By the same storage: nothing is started again but the server."""

    async def ask_before_during_and_after() -> None:
        async with opened(StorageSettings.load(database_url=server.url())) as storage:
            with pytest.raises(Misconfigured, match="db migrate"):
                await storage.registry.tenants.get("acme")
            server.stop()
            with pytest.raises(Unavailable):
                await storage.registry.tenants.get("acme")
            server.start()
            with pytest.raises(Misconfigured, match="db migrate"):
                await storage.registry.tenants.get("acme")

    asyncio.run(ask_before_during_and_after())
