"""The watch that every test of the suite is under: a secret is nowhere but where it is given.

Client secrets, tokens and private keys have forms that nothing else has, so they are looked for by
these: in whatever a test's process wrote while it ran, in the output of every server process that a
test started, in each column of a test's database before it is dropped, and in the cache's server.
Whoever leaks one fails the test in which it was seen.
"""

from __future__ import annotations

import re

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.gateway import KEY_ENCRYPTION_SECRET, OPERATOR_TOKEN
from tests.servers.databases import Database, run

_CLIENT_SECRET = "sk_live_[0-9a-f]{64}"
_TOKEN = r"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{40,}"
_FORMS = (
    _CLIENT_SECRET,
    _TOKEN,
    "-----BEGIN [A-Z ]*PRIVATE KEY",
    re.escape(OPERATOR_TOKEN),
    re.escape(KEY_ENCRYPTION_SECRET),
)
# What may be in a database alone: it is there to be compared with.
_HASH = r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}"
_IN_TEXT = re.compile("|".join((*_FORMS, _HASH)))

_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


def secrets_in(said: str) -> list[str]:
    """The beginnings of the secrets in a text: enough to find them by."""
    return [f"{found[0][:12]}…" for found in _IN_TEXT.finditer(said)]


def secrets_in_database(database: Database) -> list[str]:
    """The tables that hold one, in whatever column."""
    return run(database.owner_url, _tables_with_secrets)


async def _tables_with_secrets(connection: AsyncConnection) -> list[str]:
    tables = (await connection.execute(text(_TABLES))).scalars().all()
    if not tables:
        return []
    # One statement for all of them: a whole row as text has every column in it.
    asked = " UNION ALL ".join(
        f"SELECT {n} WHERE EXISTS (SELECT FROM {table} AS each WHERE each::text ~ :forms)"
        for n, table in enumerate(tables)
    )
    found = await connection.execute(text(asked), {"forms": "|".join(_FORMS)})
    return [tables[n] for n in found.scalars()]


async def secrets_in_cache(client: Redis) -> list[str]:
    """The keys that are one, or hold one."""
    keys = [key async for key in client.scan_iter(count=1000)]
    texts = [await client.get(key) if await client.type(key) == b"string" else b"" for key in keys]
    return [
        repr(key)[:32]
        for key, value in zip(keys, texts, strict=True)
        if secrets_in(f"{key!r} {value!r}")
    ]
