"""What stands in a database, as PostgreSQL itself tells it: sets of lines that can be compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from db.postgres.engine import asyncpg_url

Snapshot: TypeAlias = Mapping[str, frozenset[str]]

_MINE = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_CLASS = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {_MINE}"

# Order of columns counts: it is what a COPY or an INSERT without names relies on. Numbers do not:
# that of a column which was taken back is not given again.
SHAPE = {
    "tables": f"""
        SELECT c.relname || coalesce(' BY ' || pg_get_partkeydef(c.oid), '')
        FROM {_CLASS} WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition""",
    "columns": f"""
        SELECT concat_ws(' ', c.relname,
            row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
            a.attname, format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN 'NOT NULL' END,
            'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
            'IDENTITY ' || nullif(a.attidentity::text, ''),
            'COLLATE ' || nullif(l.collname, 'default'))
        FROM {_CLASS} JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": f"""
        SELECT concat_ws(' ', c.relname, k.conname, pg_get_constraintdef(k.oid))
        FROM {_CLASS} JOIN pg_constraint k ON k.conrelid = c.oid WHERE NOT c.relispartition""",
    "indexes": f"""
        SELECT pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN {_CLASS} ON c.oid = i.indrelid WHERE NOT c.relispartition""",
}
REST = {
    "relations": f"SELECT c.relkind::text || ' ' || c.relname FROM {_CLASS}",
    "grants": f"""
        SELECT concat_ws(' ', c.relname, a.grantee::regrole, a.privilege_type)
        FROM {_CLASS}, LATERAL aclexplode(c.relacl) a""",
    "partitions": f"""
        SELECT c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid)
        FROM {_CLASS} WHERE c.relkind = 'r' AND c.relispartition""",
    "triggers": f"""
        SELECT c.relname || ' ' || t.tgname || ' ' || pg_get_triggerdef(t.oid)
        FROM {_CLASS} JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
            OR t.tgparentid <> 0""",
    "functions": f"""
        SELECT p.proname || ' ' || p.prosrc
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_MINE}""",
    "types": f"""
        SELECT t.typname || ' ' || t.typtype::text
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {_MINE}""",
}


@asynccontextmanager
async def session(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that commits each statement by itself."""
    engine = create_async_engine(asyncpg_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def shape(url: str) -> Snapshot:
    """The tables with their columns, constraints and indexes; not their partitions."""
    return await _read(url, SHAPE)


async def everything(url: str) -> Snapshot:
    """Grants, partitions, triggers, functions and types as well."""
    return await _read(url, {**SHAPE, **REST})


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    async with session(url) as connection:
        return [tuple(row) for row in await connection.exec_driver_sql(statement)]


async def wait_for_waiting(url: str, processes: int) -> None:
    """Returns once so many others stand before a lock in this database."""
    async with session(url) as connection, asyncio.timeout(60):
        waiting = 0
        while waiting < processes:
            found = await connection.exec_driver_sql(
                "SELECT count(DISTINCT pid) FROM pg_locks l"
                " JOIN pg_database d ON d.oid = l.database"
                " WHERE NOT granted AND datname = current_database()"
            )
            waiting = found.scalar_one()


async def _read(url: str, queries: Mapping[str, str]) -> Snapshot:
    async with session(url) as connection:
        return {
            kind: frozenset((await connection.exec_driver_sql(query)).scalars())
            for kind, query in queries.items()
        }
