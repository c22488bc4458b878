"""Revocations are swept in pages, by the owner's role alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from db.clock import system_clock
from db.errors import MigrationFailed
from db.postgres.sweeping import sweep_revocations
from tests.contract.cast import ACME, NOW
from tests.db.catalog import rows, session
from tests.db.postgres import execute
from tests.db.scene import settings
from tests.servers.databases import Database


async def fill(database: Database, how_many: int) -> None:
    """Half of them end at one instant, and the last one not before NOW."""
    await execute(
        database,
        "INSERT INTO acme_token_revocations (jti, expires_at, revoked_at)"
        " SELECT gen_random_uuid(), timestamptz '2026-05-17 12:00:00.123457Z'"
        f" - make_interval(secs => greatest({how_many} - n, {how_many} / 2)), now()"
        f" FROM generate_series(1, {how_many}) AS n"
        f" UNION ALL SELECT gen_random_uuid(), '{NOW.isoformat()}', now()",
    )


async def left(database: Database) -> object:
    [(count,)] = await rows(database.owner_url, "SELECT count(*) FROM acme_token_revocations")
    return count


async def test_pages_follow_one_another_whatever_ends_at_one_instant(database: Database) -> None:
    await fill(database, 12_001)

    assert await sweep_revocations(settings(database), ACME, NOW) == 12_001
    assert await left(database) == 1


async def test_a_table_that_is_in_use_is_told_of_and_swept_the_next_time(
    database: Database,
) -> None:
    await fill(database, 3)
    async with session(database.owner_url) as connection:
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            await transactional.exec_driver_sql("LOCK TABLE acme_token_revocations IN SHARE MODE")
            with pytest.raises(MigrationFailed, match=r"acme was not swept: .* lock timeout"):
                await sweep_revocations(settings(database), ACME, NOW)

    assert await left(database) == 4
    assert await sweep_revocations(settings(database), ACME, NOW + timedelta(seconds=1)) == 4


async def test_a_process_that_is_ahead_of_the_database_forgets_nothing(
    database: Database,
) -> None:
    await fill(database, 3)
    ahead = system_clock() + timedelta(minutes=5)

    with pytest.raises(MigrationFailed, match="ahead of the database"):
        await sweep_revocations(settings(database), ACME, ahead)

    assert await left(database) == 4
    assert await sweep_revocations(settings(database), ACME, system_clock() - timedelta(5)) == 4


async def test_the_application_itself_sweeps_nothing(database: Database) -> None:
    await fill(database, 3)
    async with session(database.app_url) as connection:
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.exec_driver_sql("DELETE FROM acme_token_revocations")

    assert await left(database) == 4
