"""The engine, and the one hook that puts a tenant's prefix into a statement.

Statements are built and cached once for all tenants, with `"{t}` where the prefix belongs. The
tenant is bound on the engine, not on a connection, so it can be neither forgotten nor left behind
for the next request; a statement that arrives without one is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db.errors import TenantNotBound
from db.namespace import TenantPrefix
from db.settings import StorageSettings
from db.tables import TENANT_TOKEN

_CONNECT_TIMEOUT = 5  # seconds
_COMMAND_TIMEOUT = 10  # seconds
_PREPARED_STATEMENTS = 500
_OPENING = f'"{TENANT_TOKEN}'


def create_engine(settings: StorageSettings, url: str | None = None) -> AsyncEngine:
    """An engine for `url` (DATABASE_URL if None) with its own pool and the tenant hook."""
    caching: dict[str, Any] = {"prepared_statement_cache_size": _PREPARED_STATEMENTS}
    if settings.pgbouncer:
        # In transaction mode a named statement would be looked for on another server connection.
        caching = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    engine = create_async_engine(
        asyncpg_url(url or settings.database_url),
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_recycle=settings.db_pool_recycle_seconds,
        pool_timeout=_CONNECT_TIMEOUT,
        hide_parameters=True,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={"timeout": _CONNECT_TIMEOUT, "command_timeout": _COMMAND_TIMEOUT, **caching},
    )
    event.listen(engine.sync_engine, "checkout", drop_closed)
    name_tenants(engine)
    return engine


def asyncpg_url(url: str) -> URL:
    """A libpq-style URL for SQLAlchemy's asyncpg dialect; `sslmode` is asyncpg's `ssl`."""
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    if sslmode := parsed.query.get("sslmode"):
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})
    return parsed


def name_tenants(engine: AsyncEngine) -> None:
    """Installs the hook, once, also on an engine that the application handed over."""
    if not event.contains(engine.sync_engine, "before_cursor_execute", _name_tenant):
        event.listen(engine.sync_engine, "before_cursor_execute", _name_tenant, retval=True)


def of_tenant(engine: AsyncEngine, tenant: TenantPrefix) -> AsyncEngine:
    """The same pool, with every statement bound to `tenant`."""
    return engine.execution_options(tenant=tenant)


def named(statement: str, tenant: TenantPrefix) -> str:
    """The statement with the tenant's prefix in it, for the hook below and for whoever speaks to
    the driver itself."""
    return statement.replace(_OPENING, f'"{tenant}_')


def drop_closed(connection: Any, record: object, proxy: object) -> None:
    """For a pool's `checkout`: a server that was restarted has closed the connections that wait
    in the pool. The pool then makes a new one; seen without asking the server."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed the connection")


def _name_tenant(
    connection: Connection,
    cursor: object,
    statement: str,
    parameters: Any,
    context: object,
    executemany: bool,
) -> tuple[str, Any]:
    if _OPENING in statement:
        tenant = connection.get_execution_options().get("tenant")
        if not isinstance(tenant, TenantPrefix):
            raise TenantNotBound("a statement on a tenant's tables has no tenant bound")
        statement = named(statement, tenant)
    return statement, parameters
