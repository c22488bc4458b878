"""Servers and databases for every test that asks for one.

Each xdist worker has servers of its own: they start in half a second and nothing is shared.
`TEST_DATABASE_URL` (an owner with CREATEDB and CREATEROLE) and `TEST_REDIS_URL` replace them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from db.backends import open_storage
from db.clock import system_clock
from db.migrations import migrate
from db.revocations import RedisRevocations
from db.settings import StorageSettings
from gateway.settings import GatewaySettings
from tests import canary
from tests.contract.cast import ACME, GLOBEX, NOW, new_tenant
from tests.servers.databases import Database, Databases, UnusableServer, run
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey

_OWNER = "suite_owner"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--torture-checks",
        type=int,
        default=1500,
        help="how many checks the torture of revocations makes at the least",
    )


def pytest_configure() -> None:
    """What this machine is configured with must not decide what a test sees."""
    settings = {name.upper() for name in GatewaySettings.model_fields}
    # `make test` tells its children how it was called itself.
    make = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    for name in list(os.environ):
        libpq = name.startswith("PG") and name != "PG_BINDIR"
        if name.upper() in settings | make or libpq:
            del os.environ[name]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Room for the session's own servers."""
    with temporary_place() as room:
        yield room


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an owner role: no superuser, but it may make databases and roles."""
    if named := os.environ.get("TEST_DATABASE_URL"):
        yield named
        return
    server = Postgres(request.getfixturevalue("place") / "postgres")
    server.start()
    try:
        run(server.url(), _make_owner)
        yield server.url(_OWNER)
    finally:
        server.stop()


async def _make_owner(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(f"CREATE ROLE {_OWNER} LOGIN CREATEDB CREATEROLE")


@pytest.fixture(scope="session")
def databases(postgres: str) -> Iterator[Databases]:
    made = Databases(postgres, disposable="TEST_DATABASE_URL" not in os.environ)
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was heard saying a secret has failed, whatever else it found."""
    report = yield
    said = canary.secrets_in("\n".join(text for _, text in report.sections))
    if said and report.when == "teardown":
        report.outcome = "failed"
        report.longrepr = f"the test's own output holds secrets: {', '.join(sorted(set(said)))}"
    return report


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A database with nothing in it, for this test alone."""
    made = databases.create()
    yield made
    kept = canary.secrets_in_database(made)
    databases.drop(made)
    assert kept == [], "tables hold a secret"


@pytest.fixture(scope="session")
def template(databases: Databases) -> Iterator[Database]:
    """What `database` copies: the registry at head, and two active tenants with empty tables."""
    made = databases.create()
    asyncio.run(_furnish(made))
    databases.seal(made)
    yield made
    databases.drop(made)


async def _furnish(database: Database) -> None:
    settings = StorageSettings.load(
        database_url=database.app_url, database_owner_url=database.owner_url
    )
    await migrate(settings, now=NOW)
    storage = await open_storage(settings)
    async with storage.registry_unit() as unit:
        for tenant in (ACME, GLOBEX):
            await unit.tenants.add(new_tenant(tenant.value))
    for tenant in (ACME, GLOBEX):
        # Partitions for the instant that the tests pass in, and for those that run by the clock.
        for instant in (NOW, system_clock()):
            await storage.upkeep.provision(tenant, instant)
    await storage.close()


@pytest.fixture
def database(databases: Databases, template: Database) -> Iterator[Database]:
    """A database with the active tenants `acme` and `globex`, for this test alone."""
    made = databases.create(template)
    yield made
    kept = canary.secrets_in_database(made)
    databases.drop(made)
    assert kept == [], "tables hold a secret"


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, worker_id: str) -> Iterator[str]:
    """The URL of a Redis-protocol server, or of one of its numbered databases, for this worker."""
    if named := os.environ.get("TEST_REDIS_URL"):
        yield asyncio.run(_claim(named, worker_id))
        return
    server = Valkey(request.getfixturevalue("place") / "valkey")
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """`redis_server`, empty when the test begins: what an earlier one has cut off would be so for
    a tenant of the same name."""
    with BlockingRedis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


async def _claim(url: str, worker_id: str) -> str:
    """A numbered database for each worker; it must be empty, because every test flushes it."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    first = query.get("db", [parts.path.strip("/") if parts.scheme != "unix" else ""])[0] or "0"
    number = int(first) + int(worker_id.removeprefix("gw") if worker_id != "master" else 0)
    # redis-py believes the query before the path.
    claimed = urlunsplit(parts._replace(query=urlencode({**query, "db": number}, doseq=True)))
    async with Redis.from_url(claimed) as client:
        if await client.dbsize():
            raise UnusableServer(
                f"database {number} of TEST_REDIS_URL is not empty: tests flush it"
            )
    return claimed


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of `redis_url`, which is empty when the test begins."""
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client
        kept = await canary.secrets_in_cache(client)
        await client.flushdb()
        assert kept == [], "keys hold a secret"


@pytest.fixture
async def cache(redis: Redis, redis_url: str) -> AsyncIterator[RedisRevocations]:
    """The revocation cache on `redis`."""
    made = RedisRevocations(redis_url)
    yield made
    await made.close()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A server of this test's own, which it may stop, start and set."""
    with temporary_place() as room:
        server = Valkey(room / "valkey")
        server.start()
        yield server
        server.stop()
