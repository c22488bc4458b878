"""A PostgreSQL that a test may kill, and start again in the same place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.databases import Database, Databases
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres


@pytest.fixture(scope="module")
def mortal_postgres() -> Iterator[Postgres]:
    with temporary_place() as room:
        home = room / "postgres"
        home.mkdir(mode=0o711)
        # Durable, or what it had promised would be lost with it.
        server = Postgres(home, durable=True)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def mortal_database(mortal_postgres: Postgres) -> Database:
    """An empty database there; it ends with its server."""
    return Databases(mortal_postgres.url(), disposable=True).create()
