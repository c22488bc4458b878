"""Past one machine: what a database with Citus is told, and that it is told once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import migrations
from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.postgres.chains import revisions
from db.postgres.citus import citus_version, completion, detachment
from db.postgres.driver import driver_of
from db.postgres.owner import connect
from db.postgres.partitions import audit_partitions
from tests.contract.cast import ACME, GLOBEX, NOW
from tests.db.catalog import Snapshot, everything, rows, session
from tests.db.citus import VERSION, Cluster, cluster
from tests.db.scene import call, environment, register, settings, with_revision
from tests.servers.databases import Database
from tests.servers.places import temporary_place

TENANTS = revisions("tenants")
CALLS = "SELECT relation, colocate_with FROM stand_in.calls ORDER BY number"
SPREAD = "SELECT logicalrelid::text FROM pg_dist_partition ORDER BY 1"
TOGETHER = [
    ("acme_agents", "none"),
    ("acme_credentials", "acme_agents"),
    ("acme_audit_events", "acme_agents"),
    ("acme_token_revocations", "acme_agents"),
]
REGION = """
def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.add_column(tenant.table("agents"), sa.Column("region", sa.String(32)))
    op.create_table(tenant.table("more"), sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture(scope="module")
def citus() -> Iterator[Cluster]:
    with temporary_place() as place, cluster(place) as made:
        yield made


@pytest.fixture
def plain(citus: Cluster) -> Iterator[Database]:
    """A database on the same server that has no Citus yet."""
    made = citus.databases.create()
    yield made
    citus.databases.drop(made)


@pytest.fixture
def other(citus: Cluster) -> Iterator[Database]:
    """Another that never has it."""
    made = citus.databases.create()
    yield made
    citus.databases.drop(made)


@pytest.fixture
async def spread(citus: Cluster, plain: Database) -> Database:
    """One with Citus, the registry, and the tenants `acme` and `globex` without tables."""
    await citus.pretend(plain)
    await migrations.migrate(settings(plain), now=NOW)
    await register(plain, "acme", "globex")
    return plain


async def kinds(database: Database) -> tuple[str, str | None]:
    async with connect(settings(database)) as connection:
        version = await citus_version(connection)
    return await migrations.kind(settings(database)), version


def of_the_tenants(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    return {
        kind: frozenset(line for line in lines if "acme_" in line or "globex_" in line)
        for kind, lines in snapshot.items()
    }


async def test_a_database_says_which_kind_it_is(citus: Cluster, plain: Database) -> None:
    before = await kinds(plain)
    await citus.pretend(plain)

    after = await kinds(plain)

    [(number,)] = await rows(plain.owner_url, "SELECT split_part(version(), ' ', 2)")
    assert before == (f"PostgreSQL {number}", None)
    assert after == (f"PostgreSQL {number} with Citus {VERSION}", VERSION)
    status = call("status", env=environment(plain))
    assert (status[0], status[1].splitlines()[0]) == (0, after[0])


async def test_a_new_tenants_tables_are_brought_together_beside_its_agents(
    spread: Database,
) -> None:
    await migrations.provision(settings(spread), ACME, NOW)

    assert await rows(spread.owner_url, CALLS) == TOGETHER
    async with session(spread.owner_url) as connection:
        months = await audit_partitions(connection, ACME)
    assert len(months) == 3
    assert await rows(spread.owner_url, SPREAD) == [
        (name,) for name in sorted([*(name for name, _ in TOGETHER), *months])
    ]


async def test_the_tables_themselves_are_those_of_a_plain_database(
    spread: Database, other: Database
) -> None:
    await migrations.migrate(settings(other), now=NOW)
    await register(other, "acme", "globex")
    for database in (spread, other):
        await migrations.migrate(settings(database), now=NOW)

    found = of_the_tenants(await everything(spread.owner_url))
    assert found == of_the_tenants(await everything(other.owner_url))
    assert found["triggers"]


async def test_repeating_it_distributes_nothing_twice(spread: Database) -> None:
    for _ in range(2):
        await migrations.provision(settings(spread), ACME, NOW)
        await migrations.migrate(settings(spread), now=NOW)

    calls = await rows(spread.owner_url, CALLS)
    assert calls == [
        *TOGETHER,
        *((a.replace("acme", "globex"), b.replace("acme", "globex")) for a, b in TOGETHER),
    ]


async def test_a_tenant_that_is_older_than_the_extension_follows(
    citus: Cluster, plain: Database
) -> None:
    await migrations.migrate(settings(plain), now=NOW)
    await register(plain, "acme")
    await migrations.migrate(settings(plain), now=NOW)
    await citus.pretend(plain)

    summary = await migrations.migrate(settings(plain), now=NOW)

    assert (summary.changed, summary.failed) == (0, ())
    assert await rows(plain.owner_url, CALLS) == TOGETHER


async def test_what_was_left_out_half_way_is_made_up_for(citus: Cluster, spread: Database) -> None:
    await migrations.provision(settings(spread), ACME, NOW)
    await citus.as_superuser(
        spread,
        "DELETE FROM pg_dist_partition WHERE logicalrelid::text !~ '^acme_(agents|credentials)'",
    )

    await migrations.provision(settings(spread), ACME, NOW)

    assert await rows(spread.owner_url, CALLS) == [*TOGETHER, *TOGETHER[2:]]


async def test_a_distribution_that_fails_leaves_no_table(citus: Cluster, spread: Database) -> None:
    await citus.as_superuser(
        spread,
        "ALTER TABLE stand_in.calls ADD CHECK (relation <> 'acme_audit_events')",
    )
    before = await everything(spread.owner_url)

    with pytest.raises(MigrationFailed, match=f"acme {TENANTS[-1]}: .*violates check constraint"):
        await migrations.provision(settings(spread), ACME, NOW)

    assert of_the_tenants(await everything(spread.owner_url)) == of_the_tenants(before)
    assert await rows(spread.owner_url, SPREAD) == []
    assert await rows(
        spread.owner_url, "SELECT tenant, revision FROM migration_log WHERE error IS NOT NULL"
    ) == [("acme", TENANTS[-1])]


async def test_later_months_and_revisions_reach_what_is_distributed(
    spread: Database, tmp_path: Path
) -> None:
    await migrations.migrate(settings(spread), now=NOW)

    made = await migrations.ensure_partitions(settings(spread), ACME, NOW + timedelta(days=31))
    summary = await migrations.migrate(
        settings(spread), now=NOW, scripts=with_revision(tmp_path, "9000_region", REGION)
    )

    assert len(made) == 1
    assert summary.failed == ()
    distributed = {name for (name,) in await rows(spread.owner_url, SPREAD)}
    assert {*made} <= distributed
    assert await rows(spread.app_url, "SELECT region FROM globex_agents") == []


async def test_a_tenant_that_was_taken_back_is_distributed_again(spread: Database) -> None:
    source = settings(spread)
    await migrations.migrate(source, now=NOW, tenants=["acme"])
    await migrations.downgrade(source, "acme", "base", now=NOW, destroy=True)
    assert await rows(spread.owner_url, SPREAD) == []

    await migrations.migrate(source, now=NOW, tenants=["acme"])

    assert await rows(spread.owner_url, CALLS) == [*TOGETHER, *TOGETHER]


async def test_without_leave_the_triggers_would_be_refused(spread: Database) -> None:
    """What the tests above lean on: the stand-in refuses as Citus does."""
    await migrations.provision(settings(spread), ACME, NOW)
    trigger = (
        "CREATE TRIGGER another BEFORE TRUNCATE ON acme_agents"
        " FOR EACH STATEMENT EXECUTE FUNCTION agentidp_append_only()"
    )

    async with session(spread.owner_url) as connection:
        with pytest.raises(DBAPIError, match="because it has triggers"):
            await connection.exec_driver_sql(trigger)


@pytest.mark.parametrize("tenant", [ACME, GLOBEX])
async def test_with_citus_a_month_is_detached_in_a_transaction(
    spread: Database, tenant: TenantPrefix
) -> None:
    await migrations.provision(settings(spread), tenant, NOW)
    parent, month = tenant.table("audit_events"), tenant.audit_partition(NOW)

    async with connect(settings(spread)) as connection:
        driver = await driver_of(connection)
        with pytest.raises(Exception, match="currently unsupported"):
            await driver.execute(detachment(parent, month, citus=False))
        async with connection.begin():
            await connection.execute(text(detachment(parent, month, citus=True)))

    async with session(spread.owner_url) as connection:
        assert month not in await audit_partitions(connection, tenant)


async def test_without_citus_a_reader_delays_a_detachment_that_can_be_completed(
    database: Database,
) -> None:
    parent, month = "acme_audit_events", ACME.audit_partition(NOW)
    async with connect(settings(database)) as connection, session(database.app_url) as reader:
        reading = await reader.execution_options(isolation_level="READ COMMITTED")
        await reading.exec_driver_sql(f"SELECT count(*) FROM {parent}")
        driver = await driver_of(connection)
        await driver.execute("SET lock_timeout = '100ms'")

        with pytest.raises(Exception, match="lock timeout"):
            await driver.execute(detachment(parent, month, citus=False))
        with pytest.raises(Exception, match="pending"):
            await driver.execute(
                detachment(parent, ACME.audit_partition(NOW + timedelta(days=31)), citus=False)
            )
        await reading.rollback()
        await driver.execute(completion(parent, month))

    async with session(database.owner_url) as connection:
        assert month not in await audit_partitions(connection, ACME)
