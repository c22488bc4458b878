"""The one room that knows a plain PostgreSQL from one with Citus.

With Citus a tenant's four tables are distributed tables of a single shard each, kept together on
one node beside its agents; placing and moving a tenant is then the extension's. Everything else
about the tables is the same, but that their triggers must be allowed, and that a partition is
detached in a transaction and not beside its readers.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.namespace import TenantPrefix
from db.postgres.driver import Driver

# Ours refuse and write nothing, wherever they run. To a plain PostgreSQL it is a setting that
# nobody reads, so that no question has to be asked before it.
ALLOW_TRIGGERS = "SET LOCAL citus.enable_unsafe_triggers = on"

_APART = """
    SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS named(name, place)
    WHERE to_regclass(name) IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(name))
    ORDER BY place
"""
_DISTRIBUTE = "SELECT create_distributed_table($1::text::regclass, NULL, colocate_with => $2)"

# The first of them is where the others go; a table that others refer to comes before them.
_TOGETHER = ("agents", "credentials", "audit_events", "token_revocations")


async def citus_version(connection: AsyncConnection) -> str | None:
    """`13.0.3`; None where the database does not have the extension."""
    if await connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'citus'")) is None:
        return None
    version = await connection.scalar(text("SELECT split_part(citus_version(), ' ', 2)"))
    return str(version)


async def kind(connection: AsyncConnection) -> str:
    """`PostgreSQL 18.1`, `PostgreSQL 15.6 with Citus 13.0.3`."""
    # A distribution puts words of its own behind the number.
    server = await connection.scalar(
        text("SELECT split_part(current_setting('server_version'), ' ', 1)")
    )
    citus = await citus_version(connection)
    return f"PostgreSQL {server}" + (f" with Citus {citus}" if citus else "")


def tables_together(tenant: TenantPrefix) -> tuple[str, ...]:
    """What is kept on one node, in the order in which it is brought there."""
    return tuple(map(tenant.table, _TOGETHER))


async def apart(
    driver: Driver, tenants: Sequence[TenantPrefix]
) -> dict[TenantPrefix, tuple[str, ...]]:
    """The tables of each tenant that are not kept together yet, in the order in which they can be
    brought together. Only for a database with Citus."""
    names = {table: tenant for tenant in tenants for table in tables_together(tenant)}
    found: dict[TenantPrefix, tuple[str, ...]] = {}
    for (table,) in await driver.fetch(_APART, list(names)):
        tenant = names[table]
        found[tenant] = (*found.get(tenant, ()), table)
    return found


async def distribute(driver: Driver, tenant: TenantPrefix) -> tuple[str, ...]:
    """Brings the tenant's tables, partitions and rows with them, to one node of the cluster, in
    the transaction that is open; those that are new there. Repeating it is harmless. Only for a
    database with Citus."""
    first, *_ = tables_together(tenant)
    new = (await apart(driver, [tenant])).get(tenant, ())
    if new:
        await driver.execute(ALLOW_TRIGGERS)
    for table in new:
        beside = "none" if table == first else first
        await driver.fetch(_DISTRIBUTE, table, beside)
    return new


def detachment(parent: str, partition: str, *, citus: bool) -> str:
    """The statement that takes a partition out of its table. On a plain PostgreSQL it must not be
    in a transaction and waits for those who read the table without keeping anybody from it; cut
    off, it leaves the partition half out, for `completion`. With Citus it must be in one."""
    statement = f'ALTER TABLE "{parent}" DETACH PARTITION "{partition}"'
    return statement if citus else f"{statement} CONCURRENTLY"


def completion(parent: str, partition: str) -> str:
    """The statement that ends a detachment which was cut off: while there is one, nothing else of
    that table can be detached. It may be in a transaction or not."""
    return f'ALTER TABLE "{parent}" DETACH PARTITION "{partition}" FINALIZE'
