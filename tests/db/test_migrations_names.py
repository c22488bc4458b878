"""Two tenants in one schema never ask for the same name, and PostgreSQL never has to cut one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import MetaData
from sqlalchemy.schema import SchemaItem

from db import migrations
from db.errors import InvalidPrefix
from db.namespace import REGISTRY_VERSION_TABLE, TenantPrefix, prefix_problem
from db.postgres.chains import revisions
from db.tables import TENANT_TOKEN, registry_metadata, tenant_metadata
from tests.contract.cast import NOW
from tests.db.catalog import rows
from tests.db.scene import register, settings
from tests.servers.databases import Database

LONGEST = 63  # bytes of an identifier
MONTHS = [datetime(year, month, 1, tzinfo=UTC) for year in (2026, 2099) for month in (1, 12)]

# Words of our own names, so that prefixes which look like tables and indexes are drawn too.
PARTS = st.sampled_from(
    ["a", "z9", "agents", "idx", "audit", "events", "credentials", "token", "y2026m11", "pkey"]
)
SLUGS = (
    st.lists(PARTS, min_size=1, max_size=5).map("_".join)
    | st.from_regex(r"[a-z][a-z0-9_]{0,22}[a-z0-9]", fullmatch=True)
).filter(lambda text: prefix_problem(text) is None)


def names_in(metadata: MetaData) -> set[str]:
    """Of tables, indexes and constraints; what SQLAlchemy adds without a name has none to share."""
    items: list[SchemaItem] = []
    for table in metadata.tables.values():
        items += [table, *table.indexes, *table.constraints]
    names = {getattr(item, "name", None) for item in items}
    return {name for name in names if isinstance(name, str)}


def relations(prefix: TenantPrefix) -> set[str]:
    """Every name that a tenant's tables and indexes take in the schema."""
    declared = names_in(tenant_metadata)
    names = {name.replace(TENANT_TOKEN, f"{prefix}_") for name in declared}
    assert all(name.startswith(f"{prefix}_") for name in names)
    return {
        *names,
        *(prefix.audit_partition(month) for month in MONTHS),
        prefix.version_table,
        f"{prefix.version_table}_pkc",
    }


def of_the_registry() -> set[str]:
    own = {REGISTRY_VERSION_TABLE, f"{REGISTRY_VERSION_TABLE}_pkc"}
    return own | names_in(registry_metadata)


@given(SLUGS, SLUGS)
@example("idx", "idx_agents")
@example("acme", "acme_agents")
@example("ab", "ab_audit_events_y2026m11")
@example("a" * 24, "a" * 23)
def test_two_prefixes_share_no_name(one: str, other: str) -> None:
    if one != other:
        assert relations(TenantPrefix(one)) & relations(TenantPrefix(other)) == set()


@given(SLUGS)
@example("a" * 24)
@example("idx_tenants")
def test_a_prefix_meets_no_name_of_the_registry_and_none_is_cut(slug: str) -> None:
    names = relations(TenantPrefix(slug))
    assert max(len(name.encode()) for name in names) <= LONGEST
    assert names & of_the_registry() == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a" * 25,
        "a" * 64,
        "Acme",
        "acme corp",
        'acme"; DROP TABLE tenants; --',
        "acme'",
        "1acme",
        "_acme",
        "acme_",
        "ac__me",
        "acmé",
        "acme\n",
        "acme\x00",
        "{t}",
        "pg_catalog",
        "public",
        "registry",
    ],
)
def test_other_text_never_becomes_a_prefix(text: str) -> None:
    with pytest.raises(InvalidPrefix):
        TenantPrefix(text)


def test_a_revision_fits_its_version_table() -> None:
    for line in ("registry", "tenants"):
        assert max(map(len, revisions(line))) <= 32


async def test_tenants_with_the_longest_and_likest_prefixes_stand_side_by_side(
    empty_database: Database,
) -> None:
    slugs = ("a" * 24, "a" * 23 + "b", "acme", "acme_agents", "idx", "idx_agents")
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, *slugs)

    summary = await migrations.migrate(settings(empty_database), now=NOW)

    assert summary.failed == ()
    found = {
        str(name)
        for (name,) in await rows(empty_database.owner_url, "SELECT relname FROM pg_class")
    }
    for slug in slugs:
        months = {TenantPrefix(slug).audit_partition(month) for month in MONTHS}
        assert relations(TenantPrefix(slug)) - months <= found | {
            # No relations: CHECKs and keys to another table live with their table.
            name
            for name in relations(TenantPrefix(slug))
            if name.endswith(("_check", "_fkey"))
        }
