"""`python -m db provision`: a tenant from nothing but the database settings."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from db import migrations
from db.admission import Admission
from db.postgres.chains import revisions
from db.postgres.owner import connect
from db.work import JobName, WorkState
from tests.contract.cast import NOW, new_agent, new_credential, new_row
from tests.db.catalog import everything, rows, session, wait_for_waiting
from tests.db.postgres import opened
from tests.db.scene import call, environment, finish, register, settings, start
from tests.servers.databases import Database

HEAD = revisions("tenants")[-1]
TENANT = "SELECT slug, display_name, status, revision FROM tenants"
EVENTS = "SELECT action, tenant, outcome, ip_address, user_agent FROM operator_events ORDER BY 1"
PROVISIONED = ("tenant.provisioned", "acme", "success", "-", "python -m db")


async def test_it_makes_the_registry_the_tenant_and_its_tables(empty_database: Database) -> None:
    code, out, err = call("provision", "--tenant", "acme", env=environment(empty_database))

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"✓ Applied: registry {revision}" for revision in revisions("registry")),
        f"✓ Provisioned: acme {HEAD}",
    ]
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", "active", HEAD)]
    assert await rows(empty_database.owner_url, EVENTS) == [PROVISIONED]
    [(metadata, timestamp)] = await rows(
        empty_database.owner_url, "SELECT metadata->>'revision', timestamp FROM operator_events"
    )
    assert metadata == HEAD
    assert isinstance(timestamp, datetime)
    assert abs(datetime.now(UTC) - timestamp) < timedelta(minutes=5)
    # With the application's grants: it is the application that will use the tables.
    for table in ("agents", "credentials", "audit_events", "token_revocations"):
        assert await rows(empty_database.app_url, f"SELECT count(*) FROM acme_{table}") == [(0,)]


async def test_one_role_is_enough(empty_database: Database) -> None:
    env = environment(None, DATABASE_URL=empty_database.owner_url)

    code, _, err = call("provision", "--tenant", "acme", env=env)

    assert (code, err) == (0, "")
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", "active", HEAD)]


async def test_a_display_name_is_kept_as_it_is_given(empty_database: Database) -> None:
    name = "Acme \"Ünlimited\" 'GmbH'; --"

    call("provision", "--tenant", "acme", "--display-name", name, env=environment(empty_database))

    assert await rows(empty_database.owner_url, TENANT) == [("acme", name, "active", HEAD)]


@pytest.mark.parametrize("name", ["", "x" * 129])
async def test_a_display_name_that_cannot_be_kept_registers_nothing(
    empty_database: Database, name: str
) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    before = await everything(empty_database.owner_url)

    code, _, err = call("provision", "--tenant", "acme", "--display-name", name, env=env)

    assert (code, err) == (2, "error: --display-name: the text must have 1 to 128 characters\n")
    assert await everything(empty_database.owner_url) == before
    assert await rows(empty_database.owner_url, TENANT) == []


async def test_an_active_tenant_is_left_as_it_is(database: Database) -> None:
    before = await everything(database.owner_url)
    tenants = await rows(database.owner_url, "SELECT * FROM tenants ORDER BY slug")

    code, out, err = call("provision", "--tenant", "acme", env=environment(database))

    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("- Skipped (already active): acme")
    assert await everything(database.owner_url) == before
    assert await rows(database.owner_url, "SELECT * FROM tenants ORDER BY slug") == tenants
    assert await rows(database.owner_url, EVENTS) == []


@pytest.mark.parametrize("status", ["provisioning", "failed"])
async def test_an_unfinished_tenant_is_resumed(empty_database: Database, status: str) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", status=status)

    code, out, _ = call("provision", "--tenant", "acme", env=env)

    assert (code, out.splitlines()[-1]) == (0, f"✓ Provisioned: acme {HEAD}")
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", "active", HEAD)]
    assert await rows(empty_database.owner_url, EVENTS) == [PROVISIONED]


@pytest.mark.parametrize("status", ["provisioning", "failed"])
async def test_of_a_tenant_that_waits_for_its_administrator_only_the_tables_are_made(
    empty_database: Database, status: str
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", status=status)
    agent = new_agent()
    admission = Admission(agent, new_credential(agent.agent_id), ())
    async with opened(settings(empty_database)) as storage, storage.registry_unit() as unit:
        await unit.work.add(new_row(JobName.PROVISION_TENANT, "acme", state=WorkState.FAILED))
        await unit.work.seal("provision_tenant:acme", admission.to_json())

    code, out, err = call("provision", "--tenant", "acme", env=environment(empty_database))

    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "✓ Tables made: acme; a worker will admit its administrator"
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", status, None)]
    assert await rows(empty_database.owner_url, EVENTS) == []
    assert await rows(empty_database.app_url, "SELECT count(*) FROM acme_agents") == [(0,)]
    assert await rows(empty_database.owner_url, "SELECT state, run_after <= now() FROM work") == [
        ("queued", True)
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("removed", "error: the tenant acme was removed, and a slug is never given twice\n"),
        ("removing", "error: the tenant acme is removing; nothing was changed\n"),
        ("suspended", "error: the tenant acme is suspended; nothing was changed\n"),
    ],
)
async def test_a_tenant_that_had_its_day_is_refused(
    empty_database: Database, status: str, said: str
) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", status=status)
    before = await everything(empty_database.owner_url)

    code, _, err = call("provision", "--tenant", "acme", env=env)

    assert (code, err) == (1, said)
    assert await everything(empty_database.owner_url) == before
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", status, None)]
    assert await rows(empty_database.owner_url, EVENTS) == []


async def test_a_tenant_whose_tables_cannot_be_made_has_failed_and_is_tried_again(
    empty_database: Database,
) -> None:
    env = environment(empty_database)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE TABLE acme_agents (of_somebody_else int)")
    failed = call("provision", "--tenant", "acme", env=env)
    after_failure = await rows(empty_database.owner_url, TENANT)
    events = await rows(empty_database.owner_url, EVENTS)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("DROP TABLE acme_agents")

    again = call("provision", "--tenant", "acme", env=env)

    assert failed[::2] == (
        1,
        'error: acme 0001_create_agents: relation "acme_agents" already exists (SQLSTATE 42P07)\n',
    )
    assert after_failure == [("acme", "acme", "failed", None)]
    assert events == [("tenant.failed", "acme", "failure", "-", "python -m db")]
    assert again[::2] == (0, "")
    assert await rows(empty_database.owner_url, TENANT) == [("acme", "acme", "active", HEAD)]
    assert await rows(empty_database.owner_url, EVENTS) == [*events, PROVISIONED]


async def test_the_application_role_must_exist(empty_database: Database) -> None:
    before = await everything(empty_database.owner_url)
    url = empty_database.app_url.replace(empty_database.app_role, "nobody_at_all")

    code, _, err = call(
        "provision", "--tenant", "acme", env=environment(empty_database, DATABASE_URL=url)
    )

    assert (code, err) == (
        1,
        "error: the application role 'nobody_at_all' of DATABASE_URL does not exist:"
        " create it first\n",
    )
    assert await everything(empty_database.owner_url) == before


async def test_two_at_once_make_one_tenant(empty_database: Database) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    async with connect(settings(empty_database)) as gate, gate.begin():
        # Each has seen that there is no such tenant before either can register it.
        await gate.exec_driver_sql("LOCK TABLE tenants IN SHARE MODE")
        processes = [start("provision", "--tenant", "acme", env=env) for _ in range(2)]
        await wait_for_waiting(empty_database.owner_url, len(processes))

    finished = [await asyncio.to_thread(finish, process) for process in processes]

    assert [(code, err) for code, _, err in finished] == [(0, ""), (0, "")]
    last = sorted(out.splitlines()[-1] for _, out, _ in finished)
    assert last == [f"- Skipped (already active): acme {HEAD}", f"✓ Provisioned: acme {HEAD}"]
    assert await rows(empty_database.owner_url, EVENTS) == [PROVISIONED]
