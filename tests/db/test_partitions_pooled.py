"""Months come and go behind a pooler in transaction mode, which takes every session apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.migrations import ensure_partitions, migrate, provision
from db.postgres.purging import purge
from db.postgres.sweeping import sweep_revocations
from db.records import Purge
from db.settings import StorageSettings
from tests.contract.cast import ACME
from tests.db.catalog import rows
from tests.db.pooler import pooler
from tests.db.trail import FIRST, NOW, PARENT, month, named
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that asks its superuser for no password, whatever server the other tests use."""
    with temporary_place() as room:
        home = room / "postgres"
        home.mkdir(mode=0o711)
        started = Postgres(home)
        started.start()
        yield started
        started.stop()


def test_behind_a_pooler_months_are_made_and_taken(server: Postgres, tmp_path: Path) -> None:
    direct = StorageSettings.load(database_url=server.url())

    async def keep() -> tuple[Purge, ...]:
        await migrate(direct, now=FIRST)
        await provision(direct, ACME, FIRST)
        async with pooler(tmp_path, server.home / "socket" / ".s.PGSQL.5432", size=3):
            pooled = StorageSettings.load(
                database_url=f"postgresql://postgres@/postgres?host={tmp_path}", pgbouncer=True
            )
            made = await ensure_partitions(pooled, ACME, NOW)
            assert made == named("y2024m02", "y2024m03", "y2024m04", "y2024m05")
            assert await sweep_revocations(pooled, ACME, NOW) == 0
            return await purge(pooled, ACME, month(2024, 1), NOW)

    taken = asyncio.run(keep())

    assert tuple(each.partition for each in taken) == named("y2023m11", "y2023m12")

    async def left() -> list[tuple[object, ...]]:
        return await rows(
            server.url(),
            "SELECT count(*), bool_or(inhdetachpending) FROM pg_inherits"
            f" WHERE inhparent = '{PARENT}'::regclass",
        )

    assert asyncio.run(left()) == [(5, False)]
