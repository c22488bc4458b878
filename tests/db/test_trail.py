"""The trail on PostgreSQL: many events in one commit, and what becomes of them when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from structlog.testing import capture_logs

from db.contract import Storage
from db.errors import Misconfigured, TenantNotProvisioned, Unavailable
from db.namespace import TenantPrefix
from db.postgres.engine import asyncpg_url
from db.postgres.storage import PostgresStorage
from db.records import AuditEvent
from db.settings import StorageSettings
from tests.contract.cast import ACME, GLOBEX, NOW, after, new_agent, new_credential, new_event, put
from tests.db.postgres import cut, execute, opened, settings_of
from tests.servers.databases import Database

INITECH = TenantPrefix("initech")
_COMMIT_WAITS = (
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON acme_audit_events DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION wait()",
)


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    async with opened(settings_of(database)) as storage:
        yield storage


@asynccontextmanager
async def _owner(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(asyncpg_url(database.owner_url))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def _waiting(connection: AsyncConnection, count: int = 1) -> None:
    """Returns once as many statements wait for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while await connection.scalar(waiting) != count:
        pass


async def _append(storage: Storage, *events: tuple[TenantPrefix, AuditEvent]) -> list[object]:
    return await asyncio.gather(
        *(storage.trail.append(*event) for event in events), return_exceptions=True
    )


async def _there(storage: Storage, tenant: TenantPrefix, *events: AuditEvent) -> bool:
    reader = storage.read(tenant).audit
    return [await reader.get(event.event_id, NOW) for event in events] == [*events]


async def _transactions(database: Database, *tables: str) -> int:
    """How many have written the rows that are there now."""
    rows = " UNION ALL ".join(f"SELECT xmin::text AS writer FROM {table}" for table in tables)
    counted = text(f"SELECT count(DISTINCT writer) FROM ({rows}) AS written")
    async with _owner(database) as connection:
        found = await connection.scalar(counted)
    return int(found or 0)


async def test_events_of_many_callers_and_tenants_are_committed_at_once(
    database: Database, storage: Storage
) -> None:
    events = [(tenant, new_event()) for tenant in (ACME, GLOBEX) for _ in range(32)]
    assert await _append(storage, *events) == [None] * 64
    assert await _transactions(database, "acme_audit_events", "globex_audit_events") == 1


async def test_more_than_a_batch_holds_are_committed_in_several(
    database: Database, storage: Storage
) -> None:
    assert await _append(storage, *((ACME, new_event()) for _ in range(1001))) == [None] * 1001
    assert await _transactions(database, "acme_audit_events") == 3


async def test_an_event_that_cannot_be_kept_fails_alone_with_its_own_error(
    storage: Storage,
) -> None:
    good = [new_event() for _ in range(20)]
    others = [new_event() for _ in range(5)]
    too_long = new_event(ip_address="canary" * 20)
    no_month = new_event(NOW + timedelta(days=400))
    answers = await _append(
        storage,
        *((ACME, event) for event in (*good[:7], too_long, *good[7:13], no_month, *good[13:])),
        *((GLOBEX, event) for event in others),
    )
    refused, missing = answers.pop(7), answers.pop(13)
    assert answers == [None] * 25
    assert isinstance(refused, Misconfigured)
    assert "canary" not in str(refused)
    assert isinstance(missing, Unavailable)
    assert "month" in str(missing)
    assert await _there(storage, ACME, *good)
    assert await _there(storage, GLOBEX, *others)
    assert await storage.read(ACME).audit.count(NOW) == 20
    after_it = new_event()
    assert await _append(storage, (ACME, after_it)) == [None]
    assert await _there(storage, ACME, after_it)


async def test_a_tenant_dropped_behind_the_trail_fails_alone(
    database: Database, storage: Storage
) -> None:
    """The connection has prepared its statement by then."""
    await storage.upkeep.provision(INITECH, NOW)
    everybody = (ACME, INITECH, GLOBEX)
    assert await _append(storage, *((each, new_event()) for each in everybody)) == [None] * 3
    await storage.upkeep.drop(INITECH)
    events = [(each, new_event()) for each in everybody * 2]
    answers = await _append(storage, *events)
    assert [type(answer) for answer in answers[1::3]] == [TenantNotProvisioned] * 2
    assert answers[::3] + answers[2::3] == [None] * 4
    await storage.upkeep.provision(INITECH, NOW)
    assert await _append(storage, *((each, new_event()) for each in everybody)) == [None] * 3


async def test_a_table_that_somebody_has_locked_holds_up_no_other_tenant(
    database: Database, storage: Storage
) -> None:
    held = [new_event() for _ in range(6)]
    others = [new_event() for _ in range(3)]
    async with _owner(database) as connection:
        await connection.execute(text("LOCK TABLE acme_audit_events IN ACCESS EXCLUSIVE MODE"))
        waiting = asyncio.create_task(_append(storage, *((ACME, event) for event in held[:3])))
        for event in others:
            assert await _append(storage, (GLOBEX, event)) == [None]
        late = asyncio.create_task(_append(storage, *((ACME, event) for event in held[3:])))
        assert await _append(storage, (GLOBEX, new_event())) == [None]
        assert not waiting.done()
        assert not late.done()
        await connection.rollback()
        assert await waiting == await late == [None] * 3
    assert await _there(storage, ACME, *held)
    assert await _there(storage, GLOBEX, *others)


async def test_a_table_that_is_locked_for_long_is_unavailable_to_its_tenant_alone(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.postgres.trail._PATIENCE_ASIDE_MS", 50)
    async with _owner(database) as connection:
        await connection.execute(text("LOCK TABLE acme_audit_events IN ACCESS EXCLUSIVE MODE"))
        answers = await _append(
            storage, (ACME, new_event()), (GLOBEX, new_event()), (ACME, new_event())
        )
    assert all(isinstance(answer, Unavailable) for answer in answers[::2])
    assert answers[1] is None
    assert await storage.read(ACME).audit.count(NOW) == 0
    assert await _append(storage, (ACME, new_event())) == [None]


async def test_a_connection_lost_at_the_commit_is_made_up_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.postgres.trail._PATIENCE_MS", 60_000)
    for statement in _COMMIT_WAITS:
        await execute(database, statement)
    event = new_event()
    async with opened(settings_of(database)) as storage:
        async with _owner(database) as holder, _owner(database) as watcher:
            await holder.execute(text("SELECT pg_advisory_lock(1)"))
            appending = asyncio.create_task(storage.trail.append(ACME, event))
            await _waiting(watcher)
            await watcher.rollback()
            # Of the holder too, so that the next attempt need not wait.
            await cut(database)
            await appending
            await holder.invalidate()
            await watcher.invalidate()
        assert await _there(storage, ACME, event)
        assert await storage.read(ACME).audit.count(NOW) == 1


async def test_an_engine_full_of_connections_that_were_closed_costs_nobody_an_event(
    database: Database,
) -> None:
    """The application's own, which does not look whether they are."""
    engine = create_async_engine(asyncpg_url(database.app_url), pool_size=8)
    storage = PostgresStorage(engine, settings_of(database), owns_engine=False)
    try:
        await asyncio.gather(*(storage.read(ACME).agents.count() for _ in range(8)))
        await cut(database)
        assert await _append(storage, (ACME, new_event()), (GLOBEX, new_event())) == [None] * 2
    finally:
        await storage.close()
        await engine.dispose()


async def test_beyond_its_room_the_trail_refuses_at_once_and_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.postgres.trail._PATIENCE_MS", 60_000)
    monkeypatch.setattr("db.postgres.trail._ROOM", 3)
    first, *others = events = [new_event() for _ in range(4)]
    async with opened(settings_of(database)) as storage:
        async with _owner(database) as connection:
            await connection.execute(text("LOCK TABLE acme_audit_events IN ACCESS EXCLUSIVE MODE"))
            appending = [asyncio.create_task(storage.trail.append(ACME, first))]
            await _waiting(connection)
            appending += [asyncio.create_task(storage.trail.append(ACME, each)) for each in others]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refused:
                await storage.trail.append(GLOBEX, new_event())
            assert refused.value.retry_after == 1
            await connection.rollback()
            assert await asyncio.gather(*appending) == [None] * 4
        assert await _there(storage, ACME, *events)
        assert await storage.read(GLOBEX).audit.count(NOW) == 0


async def test_the_end_waits_for_what_was_given(database: Database, storage: Storage) -> None:
    events = [new_event() for _ in range(600)]
    appending = asyncio.gather(*(storage.trail.append(ACME, event) for event in events))
    await asyncio.sleep(0)
    await storage.close()
    assert appending.done()
    assert await appending == [None] * 600
    async with opened(settings_of(database)) as again:
        assert await again.read(ACME).audit.count(NOW) == 600


async def test_the_end_waits_for_tenants_that_were_put_aside(
    database: Database, storage: Storage
) -> None:
    event = new_event()
    async with _owner(database) as connection, _owner(database) as watcher:
        await connection.execute(text("LOCK TABLE acme_audit_events IN ACCESS EXCLUSIVE MODE"))
        appending = asyncio.create_task(storage.trail.append(ACME, event))
        assert await _append(storage, (GLOBEX, new_event())) == [None]
        await _waiting(watcher)
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
        assert not closing.done()
        await connection.rollback()
        await closing
        await appending
    async with opened(settings_of(database)) as again:
        assert await _there(again, ACME, event)


async def test_without_the_server_nobody_is_told_that_an_event_is_kept(place: Path) -> None:
    url = f"postgresql://nobody@/nothing?host={place}"
    async with opened(StorageSettings.load(database_url=url)) as storage:
        answers = await _append(storage, *((ACME, new_event()) for _ in range(10)))
    assert all(isinstance(answer, Unavailable) for answer in answers)


async def test_uses_that_cannot_be_written_are_complained_of_once(place: Path) -> None:
    url = f"postgresql://nobody@/nothing?host={place}"
    with capture_logs() as logs:
        async with opened(StorageSettings.load(database_url=url)) as storage:
            for tenant in (ACME, GLOBEX):
                storage.trail.used(tenant, new_credential(new_agent().agent_id), NOW)
    assert [line["event"] for line in logs] == ["uses not written"]


async def test_many_uses_are_one_change(database: Database, storage: Storage) -> None:
    agent = new_agent()
    credentials = [new_credential(agent.agent_id) for _ in range(50)]
    await put(storage, ACME, agent, *credentials)
    for credential in credentials:
        storage.trail.used(ACME, credential, NOW)
    await storage.close()
    assert await _transactions(database, "acme_credentials") == 1


async def test_a_credential_that_is_held_holds_up_neither_events_nor_other_uses(
    storage: Storage,
) -> None:
    agent = new_agent()
    held, free = new_credential(agent.agent_id), new_credential(agent.agent_id)
    await put(storage, ACME, agent, held, free)
    read = storage.read(ACME).credentials
    async with storage.unit(ACME) as unit:
        await unit.credentials.get(held.credential_id)
        storage.trail.used(ACME, held, after(1))
        storage.trail.used(ACME, free, after(1))
        await storage.trail.append(ACME, new_event())
        while await read.get(free.credential_id) == free:
            pass
        assert await read.get(held.credential_id) == held
    # The next batch takes along what was passed over.
    storage.trail.used(ACME, free, after(2))
    while await read.get(held.credential_id) == held:
        pass
    assert await read.get(held.credential_id) == replace(held, last_used_at=after(1))
