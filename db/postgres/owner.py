"""The connection by which tables are made and changed, and what may be said of its failures.

It belongs to the owner role and to nobody else: every DDL statement empties the prepared-statement
cache of the engine that it runs on, and the application's engine must keep its own.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import URL, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.errors import AgentIdPError, Misconfigured, Unavailable
from db.postgres.engine import asyncpg_url
from db.settings import StorageSettings

_CONNECT_TIMEOUT = 5  # seconds
# Another process may be in the middle of the same change; it is waited for. But a statement that
# waits for a busy table makes every later reader of that table wait behind it.
_WAIT_FOR_OTHERS = "60s"
_WAIT_FOR_A_TABLE = "2s"
_LONGEST_REASON = 500

Source = StorageSettings | AsyncEngine
"""The settings, or an engine of the owner's that the application made itself."""


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[AsyncConnection]:
    """A connection of the owner role. Raises Unavailable, or Misconfigured for a useless URL."""
    engine = _engine(source) if isinstance(source, StorageSettings) else _transactional(source)
    try:
        connection = await _connect(engine)
        try:
            yield connection
        except (DBAPIError, ConnectionError) as error:
            if is_lost(error):
                raise Unavailable(
                    f"the connection to {_place(engine.url)} was lost: {reason(error)}"
                ) from None
            raise
        finally:
            # Closing says goodbye to a server that may be gone; what was to be said is said.
            with suppress(DBAPIError, OSError):
                await connection.close()
    finally:
        if isinstance(source, StorageSettings):
            await engine.dispose()


@asynccontextmanager
async def change(connection: AsyncConnection, subject: str) -> AsyncIterator[None]:
    """One transaction, with `subject` (a tenant's prefix, or `registry`) to itself."""
    async with connection.begin():
        await hold(connection, subject)
        yield


async def hold(connection: AsyncConnection, subject: str) -> None:
    """Waits until no other transaction changes the tables of `subject`, and keeps them until the
    end of this one; from here on no statement waits long for a table that is in use."""
    await connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_FOR_OTHERS}'"))
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"migrate:{subject}"},
    )
    await connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_FOR_A_TABLE}'"))


async def table_exists(connection: AsyncConnection, name: str) -> bool:
    found = await connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name})
    return bool(found)


def application_role(source: Source) -> str | None:
    """The role that the application connects as; None when it is the owner itself."""
    if isinstance(source, AsyncEngine):
        return None
    role = _user(asyncpg_url(source.database_url))
    return None if role == _user(asyncpg_url(source.owner_url)) else role


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, rather than a statement refused."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, ConnectionError)


def reason(error: BaseException) -> str:
    """One line for people: what the server said, without the statement, its values or the row."""
    if isinstance(error, AgentIdPError):
        return error.message
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    state = getattr(error, "sqlstate", None)
    # A driver puts its own class in front of what the server said, which is the cause.
    said = str(error.__cause__ or error) if state else str(error)
    first = said.strip().partition("\n")[0]
    if state:
        first = f"{first} (SQLSTATE {state})"
    elif not isinstance(error, OSError):
        first = f"{type(error).__name__}: {first}"
    return (first or type(error).__name__)[:_LONGEST_REASON]


def _engine(settings: StorageSettings) -> AsyncEngine:
    if settings.in_memory:
        raise Misconfigured("DATABASE_URL=memory:// has no tables: there is nothing to migrate")
    return create_async_engine(
        asyncpg_url(settings.owner_url),
        poolclass=NullPool,
        hide_parameters=True,
        # No statement is repeated often enough to be kept, and behind PgBouncer none may be.
        connect_args={
            "timeout": _CONNECT_TIMEOUT,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
        },
    )


def _transactional(engine: AsyncEngine) -> AsyncEngine:
    """One handed over may commit every statement by itself."""
    return engine.execution_options(isolation_level="READ COMMITTED")


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    try:
        return await engine.connect()
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"the database URL cannot be used: {reason(error)}") from None
    except Exception as error:
        # Whatever else stands between here and the database: name resolution, TLS, the password.
        raise Unavailable(f"{_place(engine.url)} cannot be reached: {reason(error)}") from None


def _place(url: URL) -> str:
    """Where the database is, without the password, which may be in the query too."""
    host = url.host or url.query.get("host") or "the local socket"
    port = url.port or url.query.get("port") or 5432
    return f"the database {url.database or _user(url)} at {host}:{port}"


def _user(url: URL) -> str:
    named = url.username or url.query.get("user") or os.environ.get("PGUSER")
    return str(named or getpass.getuser())
