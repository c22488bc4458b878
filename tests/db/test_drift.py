"""What the code declares and what the migrations make are the same tables, to the last index."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sqlalchemy import Dialect, MetaData
from sqlalchemy.schema import CreateIndex, CreateTable

from db import migrations
from db.namespace import TenantPrefix
from db.postgres.chains import SCRIPTS
from db.tables import TENANT_TOKEN, registry_metadata, tenant_metadata
from tests.contract.cast import NOW
from tests.db.catalog import Snapshot, session, shape
from tests.db.scene import settings
from tests.servers.databases import Database, Databases

PREFIX = TenantPrefix("wayne_enterprises")
VERSIONS = (PREFIX.version_table, "registry_alembic_version")


@pytest.fixture
def declared_database(databases: Databases) -> Iterator[Database]:
    made = databases.create()
    yield made
    databases.drop(made)


async def test_declared_tables_are_those_that_the_migrations_make(
    migrated: Snapshot, declared: Snapshot
) -> None:
    assert declared["tables"], "nothing was compared"
    assert migrated == declared


@pytest.fixture
async def migrated(empty_database: Database) -> Snapshot:
    await migrations.migrate(settings(empty_database), now=NOW)
    await migrations.provision(settings(empty_database), PREFIX, NOW)
    found = await shape(empty_database.owner_url)
    return {
        kind: frozenset(line for line in lines if not any(name in line for name in VERSIONS))
        for kind, lines in found.items()
    }


@pytest.fixture
async def declared(declared_database: Database) -> Snapshot:
    async with session(declared_database.owner_url) as connection:
        for metadata in (registry_metadata, tenant_metadata):
            for statement in definitions(metadata, connection.dialect):
                named = statement.replace(f'"{TENANT_TOKEN}', f'"{PREFIX}_')
                await connection.exec_driver_sql(named)
    return await shape(declared_database.owner_url)


def definitions(metadata: MetaData, dialect: Dialect) -> Iterator[str]:
    for table in metadata.sorted_tables:
        yield str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            yield str(CreateIndex(index).compile(dialect=dialect))


def test_no_revision_imports_the_tables_as_they_are_today() -> None:
    revisions = sorted(SCRIPTS.glob("*/*.py"))
    assert len(revisions) >= 8
    for path in revisions:
        tree = ast.parse(path.read_text())
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        ours = {name for name in imported if name.partition(".")[0] in ("db", "gateway", "workers")}
        assert ours <= {"db.namespace"}, f"{path.name} imports {ours}"


def test_the_folder_of_migrations_does_not_shadow_the_library() -> None:
    assert list(SCRIPTS.rglob("__init__.py")) == []


def test_a_revision_is_named_as_its_file() -> None:
    for line in ("registry", "tenants"):
        files = sorted(path.stem for path in (SCRIPTS / line).glob("*.py"))
        assert files[-1] == migrations.head(line)
