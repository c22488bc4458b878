"""Settings, registered tenants, and migrations that do not exist yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sqlalchemy import insert

from db.postgres.chains import SCRIPTS
from db.settings import StorageSettings
from db.tables import tenants
from tests.db.catalog import session
from tests.servers.databases import Database

ROOT = Path(__file__).parents[2]


def settings(database: Database) -> StorageSettings:
    return StorageSettings.load(
        database_url=database.app_url, database_owner_url=database.owner_url
    )


async def register(database: Database, *slugs: str, status: str = "active") -> None:
    async with session(database.owner_url) as connection:
        for slug in slugs:
            await connection.execute(
                insert(tenants).values(slug=slug, display_name=slug, status=status)
            )


def with_revision(folder: Path, name: str, body: str, of: Path = SCRIPTS) -> Path:
    """A copy of the migrations with one more tenant revision after the head."""
    scripts = folder / "alembic"
    shutil.copytree(of, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(path.stem for path in (scripts / "tenants").glob("*.py"))[-1]
    (scripts / "tenants" / f"{name}.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f"revision = {name!r}\ndown_revision = {before!r}\n\n\n{body}"
    )
    return scripts


def environment(database: Database | None, **changes: str) -> dict[str, str]:
    """What `python -m db` is started with: nothing of this machine's own settings."""
    named = {"PATH": os.environ["PATH"]}
    if database is not None:
        named |= {"DATABASE_URL": database.app_url, "DATABASE_OWNER_URL": database.owner_url}
    return {**named, **changes}


def start(
    *arguments: str, env: dict[str, str], stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "db", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit status, and what it said on either stream."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def call(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    return finish(start(*arguments, env=env))
