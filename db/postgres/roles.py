"""What the application role may do, table by table; the owner role needs no grant.

The rule of the trail is here and in its triggers: the application appends and reads, through the
parent alone. Grants follow every migration in its own transaction, so that no table is ever
without them. An owner or a superuser could undo both, and is therefore not let in to serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
        tables = [*_REGISTRY, *(table for each in tenants for table in tables_of(each))]
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


def tables_of(tenant: TenantPrefix) -> list[str]:
    """The tables that every tenant has, its months not among them."""
    return [tenant.version_table, *map(tenant.table, _TENANT)]


@dataclass(frozen=True, slots=True)
class Role:
    """The application's, in the database that it is to serve from."""

    name: str
    oid: int


def missing_role(name: str) -> MigrationFailed:
    return MigrationFailed(
        f"the application role {name!r} of DATABASE_URL does not exist: create it first"
    )


def corrections(
    tenant: TenantPrefix, rights: Mapping[str, frozenset[str]], role: Role
) -> tuple[str, ...]:
    """The statements after which the role has exactly its rights on the tables of a tenant, where
    it has `rights` now: on the months too, which are all those that have no rights of their own."""
    wanted = _rights_of(tenant)
    return tuple(
        statement
        for table, held in rights.items()
        for statement in _exchange(table, role.name, held, wanted.get(table, _NOTHING))
    )


async def grant(connection: AsyncConnection, tenant: TenantPrefix | None, role: str | None) -> None:
    """Gives the application role exactly its rights on the tables that stand: those of `tenant`,
    or of the registry. More, from default privileges perhaps, is taken back."""
    if role is None:
        return
    identifier = await connection.scalar(
        text("SELECT oid FROM pg_roles WHERE rolname = :role"), {"role": role}
    )
    if identifier is None:
        raise missing_role(role)
    await _grant_schema(connection, role)
    wanted = await _wanted(connection, tenant)
    for table, held in (await _held(connection, identifier, list(wanted))).items():
        for statement in _exchange(table, role, held, wanted[table]):
            # Driver SQL: a colon in a role's name must not be read as a parameter.
            await connection.exec_driver_sql(statement)


async def _wanted(
    connection: AsyncConnection, tenant: TenantPrefix | None
) -> Mapping[str, frozenset[str]]:
    if tenant is None:
        return _REGISTRY
    partitions = dict.fromkeys(await audit_partitions(connection, tenant), _NOTHING)
    return {**_rights_of(tenant), **partitions}


def _rights_of(tenant: TenantPrefix) -> dict[str, frozenset[str]]:
    tables = {tenant.table(name): privileges for name, privileges in _TENANT.items()}
    return {**tables, tenant.version_table: _READ}


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


def _exchange(table: str, role: str, held: frozenset[str], wanted: frozenset[str]) -> Iterator[str]:
    if held - wanted:
        yield f"REVOKE ALL ON {_quoted(table)} FROM {_quoted(role)}"
        held = _NOTHING
    if wanted - held:
        yield f"GRANT {', '.join(sorted(wanted))} ON {_quoted(table)} TO {_quoted(role)}"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


async def _grant_schema(connection: AsyncConnection, role: str) -> None:
    """Everybody may use `public`; a schema of the owner's own must be opened."""
    row = await connection.execute(
        text("SELECT current_schema(), has_schema_privilege(:role, current_schema(), 'USAGE')"),
        {"role": role},
    )
    schema, usable = row.one()
    if not usable:
        await connection.exec_driver_sql(
            f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {_quoted(role)}"
        )
