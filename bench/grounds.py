"""The servers that a benchmark runs against, and what it says of itself.

They are those of the tests, but the database keeps its promises, and on a disk: what is measured
waits for it as it does in production.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from db.settings import StorageSettings
from tests.servers.databases import Database, Databases, run
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey

_OWNER = "bench_owner"


@dataclass(frozen=True, slots=True)
class Grounds:
    """`database` is empty, with an owner and an application role; `settings` name it and the cache
    (memory, where none was asked for)."""

    database: Database
    databases: Databases
    settings: StorageSettings
    superuser_url: str
    redis_url: str | None


@contextmanager
def grounds(*, valkey: bool = False, options: Mapping[str, str] | None = None) -> Iterator[Grounds]:
    """A PostgreSQL with fsync on, a Valkey if asked for, and an empty database; all of it is gone
    at the end. `options` are settings of the server."""
    # What this machine is configured with must not decide what is measured.
    for name in list(os.environ):
        if name.upper() in {field.upper() for field in StorageSettings.model_fields}:
            del os.environ[name]
    # The tests' own place may be in memory; this one outlives a restart by convention.
    with temporary_place(Path("/var/tmp")) as place:
        server = Postgres(place / "postgres", durable=True, options=options)
        server.start()
        cache = Valkey(place / "valkey") if valkey else None
        try:
            if cache:
                cache.start()
            run(server.url(), _make_owner)
            databases = Databases(server.url(_OWNER), disposable=True)
            database = databases.create()
            settings = StorageSettings.load(
                database_url=database.app_url,
                database_owner_url=database.owner_url,
                **({"redis_url": cache.url()} if cache else {}),
            )
            yield Grounds(
                database, databases, settings, server.url(), cache.url() if cache else None
            )
        finally:
            if cache:
                cache.stop()
            server.stop()


async def _make_owner(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(f"CREATE ROLE {_OWNER} LOGIN CREATEDB CREATEROLE")


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold for the program to end well."""

    name: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "ok" if self.holds else "MISSED"
        measured, limit = f"{self.value:.3g}{self.unit}", f"{self.limit:g}{self.unit}"
        return f"{self.name}: {measured} (bar {sign} {limit}) {verdict}"


def judge(*bars: Bar) -> int:
    """Prints each bar; the exit status."""
    for bar in bars:
        print(bar)
    return 0 if all(bar.holds for bar in bars) else 1


def table(headings: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Prints columns: the first to the left, numbers to the right."""
    cells = [[_cell(cell) for cell in line] for line in [headings, *lines]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *rest = zip(line, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
