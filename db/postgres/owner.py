"""The connection by which tables are made and changed, and what may be said of its failures.

It belongs to the owner role and to nobody else: every DDL statement empties the prepared-statement
cache of the engine that it runs on, and the application's engine must keep its own.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import URL, NullPool, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.errors import AgentIdPError, Misconfigured, Unavailable
from db.postgres.citus import ALLOW_TRIGGERS
from db.postgres.driver import Driver
from db.postgres.engine import asyncpg_url, drop_closed
from db.settings import StorageSettings

_CONNECT_TIMEOUT = 5  # seconds
# Another process may be in the middle of the same change; it is waited for. But a statement that
# waits for a busy table makes every later reader of that table wait behind it.
_WAIT_FOR_OTHERS = "60s"
_WAIT_FOR_A_TABLE = "2s"
_LONGEST_REASON = 500
_KEPT_STATEMENTS = 20

_KEPT_CONNECTIONS = 2


class Kept:
    """Connections of the owner's that outlive a call: a server process that has made tables once
    makes the next in half the time. None is made before one is needed, and a burst may have more
    than are kept afterwards. Its owner closes it."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings
        self._engine: AsyncEngine | None = None

    @property
    def engine(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = _engine(
                self.settings,
                pool_size=_KEPT_CONNECTIONS,
                max_overflow=-1,
                pool_use_lifo=True,
                pool_recycle=self.settings.db_pool_recycle_seconds,
            )
            event.listen(self._engine.sync_engine, "checkout", drop_closed)
        return self._engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()


Source: TypeAlias = StorageSettings | Kept | AsyncEngine
"""The settings, with or without connections that are kept, or an engine of the owner's that the
application made itself."""

# SQLSTATE classes: the connection failed, the server or an administrator ended it.
_LOST = ("08", "57P")
_INSUFFICIENT_PRIVILEGE = "42501"


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[AsyncConnection]:
    """A connection of the owner role. Raises Unavailable, or Misconfigured for a useless URL."""
    match source:
        case StorageSettings():
            engine = _engine(source, poolclass=NullPool)
        case Kept():
            engine = source.engine
        case _:
            engine = _transactional(source)
    try:
        connection = await _connect(engine)
        try:
            yield connection
        except Exception as error:
            if is_lost(error):
                raise Unavailable(
                    f"the connection to {_place(engine.url)} was lost: {reason(error)}"
                ) from None
            if _is_forbidden(error):
                raise Misconfigured(
                    f"{reason(error)}: DATABASE_OWNER_URL has to name the role that owns the tables"
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
    for statement in _holding(subject):
        await connection.execute(text(statement))


@asynccontextmanager
async def held(driver: Driver, subject: str, opening: str) -> AsyncIterator[str]:
    """As `change`, beneath SQLAlchemy, with the statement `opening` in the same first message; its
    tag is yielded. Whoever is done sends COMMIT with the last; what was not committed is undone."""
    try:
        yield await driver.execute(
            ";".join(("BEGIN ISOLATION LEVEL READ COMMITTED", *_holding(subject), opening))
        )
    finally:
        if not driver.is_closed() and driver.is_in_transaction():
            await driver.execute("ROLLBACK")


def _holding(subject: str) -> tuple[str, ...]:
    """A subject is `registry` or a tenant's prefix: it needs no quoting."""
    return (
        f"SET LOCAL lock_timeout = '{_WAIT_FOR_OTHERS}'",
        f"SELECT pg_advisory_xact_lock(hashtextextended('migrate:{subject}', 0))",
        f"SET LOCAL lock_timeout = '{_WAIT_FOR_A_TABLE}'",
        ALLOW_TRIGGERS,
    )


async def table_exists(connection: AsyncConnection, name: str) -> bool:
    found = await connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name})
    return bool(found)


async def server_clock(connection: AsyncConnection) -> datetime:
    """The database's own time, for what our own clock must not decide alone."""
    there = await connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(there, datetime)
    return there


def application_role(source: Source) -> str | None:
    """The role that the application connects as; None when it is the owner itself."""
    if isinstance(source, AsyncEngine):
        return None
    settings = source.settings if isinstance(source, Kept) else source
    role = _user(asyncpg_url(settings.database_url))
    return None if role == _user(asyncpg_url(settings.owner_url)) else role


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, rather than a statement refused."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    # The driver's own errors come from beneath SQLAlchemy.
    state = getattr(error, "sqlstate", None)
    return isinstance(error, ConnectionError) or (state or "").startswith(_LOST)


def _is_forbidden(error: BaseException) -> bool:
    """Whether the role may not do what only the owner of the tables may."""
    return (
        isinstance(error, DBAPIError)
        and getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE
    )


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


def _engine(settings: StorageSettings, **pool: Any) -> AsyncEngine:
    if settings.in_memory:
        raise Misconfigured("DATABASE_URL=memory:// has no tables: there is nothing to migrate")
    return create_async_engine(
        asyncpg_url(settings.owner_url),
        hide_parameters=True,
        # SQLAlchemy repeats no statement often enough here to keep it; what the driver is asked
        # directly is asked of every tenant. Behind PgBouncer none may be kept.
        connect_args={
            "timeout": _CONNECT_TIMEOUT,
            "statement_cache_size": 0 if settings.pgbouncer else _KEPT_STATEMENTS,
            "prepared_statement_cache_size": 0,
        },
        **pool,
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
