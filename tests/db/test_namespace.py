"""Names: short enough for PostgreSQL, and never one tenant's that could be another's."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData

from db import namespace
from db.errors import InvalidPrefix, Misconfigured
from db.namespace import TenantPrefix, prefix_problem
from db.tables import TENANT_TOKEN, registry_metadata, tenant_metadata

LONGEST = TenantPrefix("a" * 24)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
prefixes = st.from_regex(r"\A" + namespace.PREFIX_PATTERN + r"\Z").filter(
    lambda text: prefix_problem(text) is None
)


def names(metadata: MetaData) -> set[str]:
    """Every table, index and constraint; in PostgreSQL tables and indexes share one namespace."""
    found: set[str] = set()
    for table in metadata.tables.values():
        found.add(table.name)
        found |= {str(index.name) for index in table.indexes}
        found |= {str(constraint.name) for constraint in table.constraints}
    return found


TENANT_NAMES = {name.removeprefix(TENANT_TOKEN) for name in names(tenant_metadata)} | {
    "alembic_version",
    "alembic_version_pkc",
    "audit_events_y2026m11",
}


def test_every_name_of_a_tenants_tables_begins_with_the_token() -> None:
    assert len(names(tenant_metadata)) > 20
    assert all(name.startswith(TENANT_TOKEN) for name in names(tenant_metadata))


def test_names_of_the_longest_prefix_fit_into_postgresql() -> None:
    made = [LONGEST.table(name) for name in TENANT_NAMES]
    made += [LONGEST.version_table, LONGEST.audit_partition(MONTH)]
    # PostgreSQL names the indexes and the trigger of each partition after it.
    made += [f"{LONGEST.audit_partition(MONTH)}_pkey", LONGEST.trigger("audit_events_no_truncate")]
    assert max(len(name.encode()) for name in made) <= 63


@given(prefix=prefixes)
@settings(deadline=None)
def test_every_kind_of_name_is_the_prefix_and_the_noun(prefix: str) -> None:
    tenant = TenantPrefix(prefix)
    for make in (tenant.table, tenant.index, tenant.constraint, tenant.trigger):
        assert make("agents") == f"{prefix}_agents"
    assert tenant.version_table == f"{prefix}_alembic_version"
    assert tenant.audit_partition(MONTH) == f"{prefix}_audit_events_y2026m11"
    assert str(tenant) == prefix


@given(one=prefixes, suffix=st.sampled_from(["", "_agents", "_idx", "_audit", "_audit_events"]))
@settings(deadline=None)
def test_no_name_of_one_tenant_is_one_of_another(one: str, suffix: str) -> None:
    other = one + suffix
    assume(other != one and prefix_problem(other) is None)
    ours, theirs = TenantPrefix(one), TenantPrefix(other)
    assert not {ours.table(name) for name in TENANT_NAMES} & {
        theirs.table(name) for name in TENANT_NAMES
    }


def test_no_name_is_another_with_words_before_it() -> None:
    # So no prefix, however it continues another, can make two names meet.
    for name, other in product(TENANT_NAMES, TENANT_NAMES):
        assert not name.endswith(f"_{other}"), (name, other)


def test_no_prefix_makes_a_name_of_the_registry() -> None:
    shared = names(registry_metadata) | {namespace.REGISTRY_VERSION_TABLE}
    for name, own in product(shared, TENANT_NAMES):
        if name.endswith(f"_{own}"):
            assert prefix_problem(name.removesuffix(f"_{own}")) is not None, name


@given(text=st.text(max_size=30) | st.from_regex(r"[a-z0-9_]{0,30}"))
@settings(deadline=None)
def test_a_prefix_is_made_exactly_of_what_has_no_problem(text: str) -> None:
    if prefix_problem(text) is None:
        assert TenantPrefix(text).value == text
        assert 2 <= len(text) <= 24
        assert text.isascii()
        assert text.islower()
    else:
        with pytest.raises(InvalidPrefix):
            TenantPrefix(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a" * 25,
        "a" * 64,
        "Acme",
        "1acme",
        "acme_",
        "a__b",
        'a"b',
        "a'b",
        "a.b",
        "a-b",
        "a b",
        "a\x00",
        "acme\n",
        "acmé",
        "{t}",
        "pg_temp",
        "public",
        "registry",
    ],
)
def test_text_that_no_registry_row_holds_is_an_operators_matter(text: str) -> None:
    with pytest.raises(InvalidPrefix) as refusal:
        TenantPrefix(text)
    assert isinstance(refusal.value, Misconfigured)


@pytest.mark.parametrize("text", ["ab", "a1", "acme_eu", "a" * 24, "pgx", "tenants_1"])
def test_ordinary_slugs_have_no_problem(text: str) -> None:
    assert prefix_problem(text) is None


def test_a_tenants_keys_share_a_slot_of_a_cluster() -> None:
    tenant, identifier = TenantPrefix("acme"), UUID(int=7)
    assert tenant.revoked_key(identifier) == f"{{acme}}:revoked:{identifier}"
    assert tenant.agent_generation_key(identifier) == f"{{acme}}:gen:{identifier}"
    assert tenant.tenant_generation_key == "{acme}:gen"
