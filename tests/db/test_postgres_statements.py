"""What is sent to the server: few statements, of few columns, that an index serves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.clock import system_clock
from db.contract import Storage
from db.cuts import LEAST_ID, CutKind
from db.filters import AgentFilter, AgentOrder, AuditEventFilter, Span
from db.pages import PageRequest
from db.postgres.engine import create_engine
from db.postgres.storage import PostgresStorage
from db.records import AgentStatus, AgentType
from tests.contract.cast import ACME, NOW, after, new_agent, new_credential, new_event, put
from tests.db.postgres import execute, settings_of
from tests.servers.databases import Database

Sent = list[tuple[str, tuple[Any, ...]]]

_MANY_AGENTS = """
    INSERT INTO acme_agents (agent_id, email, agent_type, version, capabilities, owner,
                             deployment_env, created_at, updated_at)
    SELECT gen_random_uuid(), n || '@agents.example', 'screener', '1.0.0', '{agents:read}',
           'team ' || n % 1000, 'production', now() + n * interval '1 second', now()
    FROM generate_series(1, 5000) n
"""


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    made = create_engine(settings_of(database))
    yield made
    await made.dispose()


@pytest.fixture
def storage(engine: AsyncEngine, database: Database) -> Storage:
    return PostgresStorage(engine, settings_of(database), owns_engine=False)


@pytest.fixture
def sent(engine: AsyncEngine, storage: Storage) -> Sent:
    """The statements as they go out, the tenant's name in them."""
    statements: Sent = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def keep(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, tuple(values)))

    return statements


def _texts(sent: Sent) -> set[str]:
    return {statement for statement, _ in sent}


async def test_only_the_wanted_columns_are_fetched(storage: Storage, sent: Sent) -> None:
    read = storage.read(ACME)
    await read.agents.page(PageRequest(), wanted={"email"})
    await read.agents.get_many([new_agent().agent_id], wanted={"email"})
    await read.credentials.page(PageRequest(), wanted={"label"})
    await read.credentials.pages([new_agent().agent_id], PageRequest(), wanted={"label"})
    await read.audit.page(PageRequest(), NOW, wanted={"action"})
    assert len(sent) == 5
    for statement in _texts(sent):
        fetched = statement.partition("\nFROM")[0]
        for unwanted in ("*", "version", "secret_hash", "metadata", "permissions"):
            assert unwanted not in fetched


async def test_the_order_in_which_fields_are_wanted_makes_no_other_statement(
    storage: Storage, sent: Sent
) -> None:
    for wanted in (["email", "owner"], ["owner", "email"], ("agent_id", "owner", "email")):
        await storage.read(ACME).agents.page(PageRequest(), wanted=wanted)
    assert len(_texts(sent)) == 1


async def test_one_statement_serves_any_number_of_values(storage: Storage, sent: Sent) -> None:
    read = storage.read(ACME)
    for count in (0, 1, 3):
        ids = [new_agent().agent_id for _ in range(count)]
        await read.agents.get_many(ids)
        await read.credentials.pages(ids, PageRequest())
        await read.audit.pages(ids, PageRequest(), NOW)
        await read.agents.page(PageRequest(), AgentFilter(status=tuple(AgentStatus)[:count]))
    assert len(sent) == 12
    assert len(_texts(sent)) == 4


async def test_any_number_of_events_is_appended_by_one_statement(
    storage: Storage, sent: Sent
) -> None:
    for count in (1, 2, 500):
        async with storage.unit(ACME) as unit:
            await unit.audit.append(*(new_event() for _ in range(count)))
    assert len(sent) == 3
    assert len(_texts(sent)) == 1
    assert await storage.read(ACME).audit.count(NOW) == 503


async def test_what_decides_about_a_token_is_one_statement(storage: Storage, sent: Sent) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    await put(storage, ACME, agent, credential)
    sent.clear()
    standing = await storage.read(ACME).revocations.standing(
        new_agent().agent_id, agent.agent_id, credential.credential_id
    )
    assert standing is not None
    assert standing.credential == credential
    assert len(sent) == 1


async def _plan(engine: AsyncEngine, sent: Sent) -> str:
    """How the server runs the statement that was sent last."""
    statement, values = sent[-1]
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        rows = await driver.fetch(f"EXPLAIN {statement}", *values)
    return "\n".join(row[0] for row in rows)


async def test_an_index_serves_every_page_of_agents(
    database: Database, engine: AsyncEngine, storage: Storage, sent: Sent
) -> None:
    await execute(database, _MANY_AGENTS)
    await execute(database, "ANALYZE acme_agents")
    agents = storage.read(ACME).agents
    for order in AgentOrder:
        page = await agents.page(PageRequest(first=50), order=order)
        for request in (
            PageRequest(first=50),
            PageRequest(last=50),
            PageRequest(first=50, after=page.cursors[-1]),
            PageRequest(last=50, before=page.cursors[-1]),
            PageRequest(first=50, after=page.cursors[0], before=page.cursors[-1]),
        ):
            await agents.page(request, order=order)
            plan = await _plan(engine, sent)
            assert "acme_idx_agents_created_at" in plan
            assert "Seq Scan" not in plan
    owned = AgentFilter(owner=("team 7",), agent_type=(AgentType.SCREENER,))
    await agents.page(PageRequest(), owned)
    assert "acme_idx_agents_owner" in await _plan(engine, sent)


async def test_an_index_serves_every_page_of_the_trail_and_old_months_are_not_read(
    database: Database, engine: AsyncEngine, storage: Storage, sent: Sent
) -> None:
    people = [new_agent().agent_id for _ in range(5)]
    trail = [new_event(after(number), agent_id=people[number % 5]) for number in range(5000)]
    await put(storage, ACME, *trail)
    await execute(database, "ANALYZE acme_audit_events")
    audit = storage.read(ACME).audit
    span = AuditEventFilter(timestamp=Span(lt=after(4000)))
    page = await audit.page(PageRequest(first=50), NOW, span)
    for request, filter in (
        (PageRequest(first=50), span),
        (PageRequest(last=50), span),
        (PageRequest(first=50, after=page.cursors[-1]), span),
        (PageRequest(last=50, before=page.cursors[-1]), span),
        (PageRequest(first=50), AuditEventFilter(agent_id=people[3])),
    ):
        await audit.page(request, NOW, filter)
        scans = re.findall(r"(\w+ Scan).* on acme_audit_events_y2026m05", await _plan(engine, sent))
        assert scans == ["Index Scan"]
    await audit.page(PageRequest(), NOW + timedelta(days=60))
    assert "y2026m05" not in await _plan(engine, sent)


_MANY_CUTS = """
    INSERT INTO acme_agents (agent_id, email, agent_type, version, capabilities, owner,
                             deployment_env, token_generation, created_at, updated_at)
    SELECT gen_random_uuid(), n || '@cut.example', 'screener', '1.0.0', '{agents:read}',
           'team', 'production', 1, now(), now() - n * interval '10 seconds'
    FROM generate_series(0, 5000) n;
    INSERT INTO acme_credentials (credential_id, client_id, secret_hash, status, created_at,
                                  revoked_at)
    SELECT gen_random_uuid(), agent_id, '!', 'revoked', now(), updated_at FROM acme_agents;
    INSERT INTO acme_token_revocations (jti, expires_at, revoked_at)
    SELECT gen_random_uuid(), now() + interval '1 day', now() - n * interval '10 seconds'
    FROM generate_series(0, 5000) n;
    ANALYZE acme_agents;
    ANALYZE acme_credentials;
    ANALYZE acme_token_revocations
"""


async def test_what_was_cut_of_late_is_one_statement_that_indexes_serve_every_time(
    database: Database, engine: AsyncEngine, storage: Storage, sent: Sent
) -> None:
    for statement in _MANY_CUTS.split(";"):
        await execute(database, statement)
    now = system_clock()
    read = storage.read(ACME).revocations
    for _ in range(12):
        found = await read.recent_cuts(now, now - timedelta(minutes=2), 10_000)
        assert [10 < len(cuts) < 20 for cuts in found] == [True] * 3
    assert len(sent) == 12
    assert len(_texts(sent)) == 1
    plan = await _plan(engine, sent)
    for index in ("agents_cut_at", "credentials_revoked_at", "token_revocations_revoked_at"):
        assert f"acme_idx_{index}" in plan
    assert "Seq Scan" not in plan
    async with engine.connect() as connection:
        # A plan for any two instants would expect a third of all rows, and read them all.
        plans = await connection.execute(
            text(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
                " WHERE starts_with(statement, 'SELECT ''token')"
            )
        )
        [(generic, custom)] = [tuple(row) for row in plans]
    assert (generic, custom) == (0, 12)


async def test_the_live_tokens_are_read_along_their_key(
    database: Database, engine: AsyncEngine, storage: Storage, sent: Sent
) -> None:
    for statement in _MANY_CUTS.split(";"):
        await execute(database, statement)
    read = storage.read(ACME).revocations
    first = await read.cuts(CutKind.TOKEN, system_clock(), None, LEAST_ID, 100)
    await read.cuts(CutKind.TOKEN, system_clock(), None, first.last, 100)
    plan = await _plan(engine, sent)
    assert "acme_token_revocations_pkey" in plan
    assert "Sort" not in plan
