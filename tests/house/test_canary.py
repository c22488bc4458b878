"""The watch that every test is under sees what it is there for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.auth.secrets import new_secret
from tests import canary
from tests.servers.databases import Database, run

ROOT = Path(__file__).parents[2]
_TOKEN = jwt.encode({"sub": "somebody-or-other"}, "a key of no importance, only long enough")


@pytest.mark.parametrize(
    "secret",
    [
        new_secret(),
        _TOKEN,
        "-----BEGIN EC PRIVATE KEY-----",
        "$2b$12$" + "abcdefghijklmnopqrstuABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[:53],
    ],
    ids=["client secret", "token", "private key", "hash"],
)
def test_a_secret_is_seen_in_a_text_and_not_repeated(secret: str) -> None:
    [seen] = canary.secrets_in(f"{{'event': 'x', 'value': '{secret}'}}")
    assert seen.endswith("…")
    assert len(seen) < 14


def test_ids_digests_and_names_are_no_secrets() -> None:
    said = (
        "sk_live_ is how they begin; 0197c1f2-7c1e-7000-8000-000000000000; eyJhbGciOi.x.y; $2b$12"
    )
    assert canary.secrets_in(said) == []


@pytest.mark.parametrize("column", ["text", "jsonb", "varchar(255)"])
def test_a_secret_is_seen_in_any_column_of_any_table(database: Database, column: str) -> None:
    value = f'{{"deep": ["{new_secret()}"]}}'

    async def leak(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(f"CREATE TABLE leak (id int, held {column})")
        await connection.exec_driver_sql(f"INSERT INTO leak VALUES (1, '{value}')")

    async def mend(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("DROP TABLE leak")

    assert canary.secrets_in_database(database) == []
    run(database.owner_url, leak)
    assert canary.secrets_in_database(database) == ["leak"]
    run(database.owner_url, mend)


async def test_a_secret_is_seen_in_the_cache_as_key_and_as_value(redis: Redis) -> None:
    await redis.set("held", new_secret())
    await redis.set(new_secret(), "1")
    await redis.set("{acme}:revoked:0197c1f2-7c1e-7000-8000-000000000000", "1")
    assert len(await canary.secrets_in_cache(redis)) == 2
    await redis.flushdb()


def test_a_test_that_says_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    (tmp_path / "test_said.py").write_text(
        f"def test_silent():\n    print('nothing')\ndef test_talkative():\n    print('{_TOKEN}')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", os.devnull],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert "2 passed, 1 error" in ended.stdout, ended.stdout + ended.stderr
    assert "test_talkative" in ended.stdout
    assert "the test's own output holds secrets: eyJ" in ended.stdout
