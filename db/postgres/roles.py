"""What the application role may do, table by table; the owner role needs no grant.

The rule of the trail is here and in its triggers: the application appends and reads, through the
parent alone. Grants follow every migration in its own transaction, so that no table is ever
without them. An owner or a superuser could undo both, and is therefore not let in to serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed, Misconfigured
from db.namespace import APPEND_ONLY_FUNCTION, REGISTRY_VERSION_TABLE, TenantPrefix
from db.postgres.partitions import audit_partitions

_READ = frozenset({"SELECT"})
_APPEND = frozenset({"SELECT", "INSERT"})
_CHANGE = frozenset({"SELECT", "INSERT", "UPDATE"})
_SWEEP = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_NOTHING: frozenset[str] = frozenset()

_REGISTRY = {
    "tenants": _CHANGE,
    "operator_events": _APPEND,
    "signing_keys": _CHANGE,
    "work": _CHANGE,
    "idempotency_keys": _SWEEP,
    "migration_log": _READ,
    "purge_log": _READ,
    REGISTRY_VERSION_TABLE: _READ,
}
_TENANT = {
    "agents": _CHANGE,
    "credentials": _CHANGE,
    "audit_events": _APPEND,
    # Never DELETE: whoever could, could bring a revoked token back.
    "token_revocations": _APPEND,
}


# A role is whatever it is a member of: it can become that, or make itself able to, at any time.
_POWERFUL = """
    SELECT session_user, min(CASE WHEN rolsuper THEN 'a superuser' ELSE 'one that makes roles' END)
    FROM pg_roles WHERE (rolsuper OR rolcreaterole) AND pg_has_role(session_user, oid, 'MEMBER')
"""
# Whoever owns a schema can drop the tables in it, whoever they belong to.
_OWNED = """
    WITH ours AS (
        SELECT to_regclass(name)::oid AS oid FROM unnest(CAST(:tables AS text[])) AS name
    ), all_of_ours AS (
        SELECT oid FROM ours
        UNION SELECT inhrelid FROM pg_inherits JOIN ours ON inhparent = oid
    ), things(name, owner) AS (
        SELECT 'database ' || datname, datdba FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT 'schema ' || nspname, nspowner FROM pg_namespace
            WHERE nspname = current_schema()
        UNION ALL SELECT 'function ' || proname, proowner FROM pg_proc
            WHERE oid = to_regproc(:function)
        UNION ALL SELECT 'table ' || relname, relowner FROM pg_class JOIN all_of_ours USING (oid)
    )
    SELECT min(name) FROM things WHERE pg_has_role(session_user, owner, 'MEMBER')
"""


async def refuse_owner(connection: AsyncConnection, tenants: Sequence[TenantPrefix]) -> None:
    """Raises Misconfigured when the role of this session could change what the audit log says:
    the owner of anything of the registry or of `tenants`, a superuser, or one that makes roles."""
    role, power = (await connection.execute(text(_POWERFUL))).one()
    if power is None:
        tables = [*_REGISTRY, *(table for each in tenants for table in _tables(each))]
        owned = await connection.scalar(
            text(_OWNED), {"tables": tables, "function": APPEND_ONLY_FUNCTION}
        )
        power = owned and f"an owner of the {owned}"
    if power:
        raise Misconfigured(
            f"ENVIRONMENT=production needs a role that only serves: {role} is {power}, or a member"
            " of such a role, and from it the database cannot keep the audit log whole. Put it"
            " into DATABASE_OWNER_URL, and into DATABASE_URL one that owns nothing"
        )


def _tables(tenant: TenantPrefix) -> list[str]:
    return [tenant.version_table, *map(tenant.table, _TENANT)]


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
