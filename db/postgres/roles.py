"""What the application role may do, table by table; the owner role needs no grant.

The rule of the trail is here and in its triggers: the application appends and reads, through the
parent alone. Grants follow every migration in its own transaction, so that no table is ever
without them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed
from db.namespace import REGISTRY_VERSION_TABLE, TenantPrefix
from db.postgres.partitions import audit_partitions

_READ = frozenset({"SELECT"})
_APPEND = frozenset({"SELECT", "INSERT"})
_CHANGE = frozenset({"SELECT", "INSERT", "UPDATE"})
_NOTHING: frozenset[str] = frozenset()

_REGISTRY = {
    "tenants": _CHANGE,
    "operator_events": _APPEND,
    "signing_keys": _CHANGE,
    "migration_log": _READ,
    REGISTRY_VERSION_TABLE: _READ,
}
_TENANT = {
    "agents": _CHANGE,
    "credentials": _CHANGE,
    "audit_events": _APPEND,
    "token_revocations": _APPEND,
}


async def require_role(connection: AsyncConnection, role: str | None) -> None:
    """Raises MigrationFailed when there is no such role."""
    if role is None:
        return
    async with connection.begin():
        await _role_id(connection, role)


async def grant(connection: AsyncConnection, tenant: TenantPrefix | None, role: str | None) -> None:
    """Gives the application role exactly its rights on the tables that stand: those of `tenant`,
    or of the registry. More, from default privileges perhaps, is taken back."""
    if role is None:
        return
    identifier = await _role_id(connection, role)
    await _grant_schema(connection, role)
    wanted = await _wanted(connection, tenant)
    held = await _held(connection, identifier, list(wanted))
    for table, privileges in held.items():
        if privileges != wanted[table]:
            await _replace(connection, table, role, wanted[table])


async def _wanted(
    connection: AsyncConnection, tenant: TenantPrefix | None
) -> Mapping[str, frozenset[str]]:
    if tenant is None:
        return _REGISTRY
    tables = {tenant.table(name): privileges for name, privileges in _TENANT.items()}
    partitions = dict.fromkeys(await audit_partitions(connection, tenant), _NOTHING)
    return {**tables, **partitions, tenant.version_table: _READ}


async def _held(
    connection: AsyncConnection, role: int, tables: list[str]
) -> dict[str, frozenset[str]]:
    """What the role itself was given on each table that exists."""
    rows = await connection.execute(
        text(
            "SELECT name, array_agg(acl.privilege_type::text)"
            "   FILTER (WHERE acl.privilege_type IS NOT NULL)"
            " FROM unnest(CAST(:tables AS text[])) AS name"
            " JOIN pg_class c ON c.oid = to_regclass(name)"
            " LEFT JOIN LATERAL aclexplode(c.relacl) acl ON acl.grantee = :role"
            " GROUP BY name"
        ),
        {"tables": tables, "role": role},
    )
    return {name: frozenset(privileges or ()) for name, privileges in rows}


async def _replace(
    connection: AsyncConnection, table: str, role: str, privileges: frozenset[str]
) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    # Driver SQL: a colon in a role's name must not be read as a parameter.
    await connection.exec_driver_sql(f"REVOKE ALL ON {quote(table)} FROM {quote(role)}")
    if privileges:
        listed = ", ".join(sorted(privileges))
        await connection.exec_driver_sql(f"GRANT {listed} ON {quote(table)} TO {quote(role)}")


async def _grant_schema(connection: AsyncConnection, role: str) -> None:
    """Everybody may use `public`; a schema of the owner's own must be opened."""
    row = await connection.execute(
        text("SELECT current_schema(), has_schema_privilege(:role, current_schema(), 'USAGE')"),
        {"role": role},
    )
    schema, usable = row.one()
    if not usable:
        quote = connection.dialect.identifier_preparer.quote_identifier
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)}")


async def _role_id(connection: AsyncConnection, role: str) -> int:
    identifier: int | None = await connection.scalar(
        text("SELECT oid FROM pg_roles WHERE rolname = :role"), {"role": role}
    )
    if identifier is None:
        raise MigrationFailed(
            f"the application role {role!r} of DATABASE_URL does not exist: create it first"
        )
    return identifier
