"""The tables of a tenant, against the specification's own words, written out here by hand.

Source: the column, index and constraint tables of the data specification; what is added to them
follows behind.
"""

from __future__ import annotations

import re

import pytest
from sqlalchemy.exc import DBAPIError

from tests.db.catalog import rows
from tests.servers.databases import Database

WHEN = "timestamp with time zone"
NOW = "now()"
WORDS = "'{}'::text[]"

# Column, type, whether it may be NULL, default.
COLUMNS: dict[str, list[tuple[str, str, bool, str | None]]] = {
    "agents": [
        ("agent_id", "uuid", False, None),
        ("email", "character varying(255)", False, None),
        ("agent_type", "character varying(32)", False, None),
        ("version", "character varying(64)", False, None),
        ("capabilities", "text[]", False, None),
        ("owner", "character varying(128)", False, None),
        ("deployment_env", "character varying(16)", False, None),
        ("status", "character varying(24)", False, "'active'::character varying"),
        ("created_at", WHEN, False, NOW),
        ("updated_at", WHEN, False, NOW),
        ("name", "character varying(128)", True, None),
        ("framework", "character varying(64)", True, None),
        ("description", "text", True, None),
        ("channels", "text[]", False, WORDS),
        ("tools", "text[]", False, WORDS),
        ("permissions", "jsonb", True, None),
        ("metadata", "jsonb", True, None),
        ("composite_score", "smallint", False, "0"),
        ("governance_level", "smallint", False, "0"),
        ("token_generation", "integer", False, "0"),
        ("kill_switched_at", WHEN, True, None),
        ("kill_switch_reason", "text", True, None),
    ],
    "credentials": [
        ("credential_id", "uuid", False, None),
        ("client_id", "uuid", False, None),
        ("secret_hash", "character varying(255)", False, None),
        ("status", "character varying(16)", False, "'active'::character varying"),
        ("created_at", WHEN, False, None),
        ("expires_at", WHEN, True, None),
        ("revoked_at", WHEN, True, None),
        ("label", "character varying(64)", True, None),
        ("last_used_at", WHEN, True, None),
        ("secret_tag", "character varying(8)", True, None),
        ("public_key", "jsonb", True, None),
        ("replaced_by", "uuid", True, None),
    ],
    "audit_events": [
        ("event_id", "uuid", False, None),
        ("agent_id", "uuid", False, None),
        ("action", "character varying(32)", False, None),
        ("outcome", "character varying(16)", False, None),
        ("ip_address", "character varying(64)", False, None),
        ("user_agent", "text", False, None),
        ("metadata", "jsonb", False, "'{}'::jsonb"),
        ("timestamp", WHEN, False, NOW),
        ("severity", "character varying(16)", False, "'info'::character varying"),
        ("event_type", "character varying(64)", True, None),
        ("policy_rule_id", "character varying(128)", True, None),
    ],
    "token_revocations": [
        ("jti", "uuid", False, None),
        ("expires_at", WHEN, False, None),
        ("revoked_at", WHEN, False, NOW),
    ],
}

# Index → whether it is UNIQUE, and what it is on. Added to them: where, and when, tokens were cut,
# and which credentials are to end.
INDEXES = {
    "agents": {
        "acme_agents_pkey": (True, "agent_id"),
        "acme_idx_agents_email": (True, "email"),
        "acme_idx_agents_status": (False, "status"),
        "acme_idx_agents_owner": (False, "owner"),
        "acme_idx_agents_agent_type": (False, "agent_type"),
        "acme_idx_agents_created_at": (False, "created_at DESC"),
        "acme_idx_agents_cut_at": (False, "updated_at WHERE (token_generation > 0)"),
    },
    "credentials": {
        "acme_credentials_pkey": (True, "credential_id"),
        "acme_idx_credentials_client_id": (False, "client_id"),
        "acme_idx_credentials_status": (False, "status"),
        "acme_idx_credentials_created_at": (False, "created_at DESC"),
        "acme_idx_credentials_revoked_at": (False, "revoked_at WHERE (revoked_at IS NOT NULL)"),
        "acme_idx_credentials_expires_at": (
            False,
            "expires_at WHERE (((status)::text = 'active'::text) AND (expires_at IS NOT NULL))",
        ),
    },
    "audit_events": {
        "acme_audit_events_pkey": (True, "event_id"),
        "acme_idx_audit_events_agent_id": (False, "agent_id, event_id"),
        "acme_idx_audit_events_action": (False, "action"),
        "acme_idx_audit_events_outcome": (False, "outcome"),
        "acme_idx_audit_events_timestamp": (False, '"timestamp" DESC'),
    },
    "token_revocations": {
        "acme_token_revocations_pkey": (True, "jti"),
        "acme_idx_token_revocations_expires_at": (False, "expires_at"),
        "acme_idx_token_revocations_revoked_at": (False, "revoked_at"),
    },
}

# Constraint → every word that it lets through.
WORDS_OF = {
    "acme_agents_agent_type_check": "screener classifier orchestrator extractor summarizer router"
    " monitor custom",
    "acme_agents_deployment_env_check": "development staging production",
    "acme_agents_status_check": "active suspended decommissioned",
    "acme_credentials_status_check": "active revoked",
    "acme_audit_events_action_check": "agent.created agent.updated agent.decommissioned"
    " agent.suspended agent.reactivated token.issued token.revoked token.introspected"
    " credential.generated credential.rotated credential.revoked auth.failed policy.evaluated"
    " kill_switch.engaged kill_switch.released custom",
    "acme_audit_events_outcome_check": "success failure allow block warn require_approval mask",
    "acme_audit_events_severity_check": "info warning critical",
}


@pytest.mark.parametrize("table", COLUMNS)
async def test_a_table_has_the_columns_of_the_specification(database: Database, table: str) -> None:
    found = await rows(
        database.owner_url,
        f"""
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = 'acme_{table}'::regclass AND a.attnum > 0
        ORDER BY a.attnum
        """,
    )

    assert found == COLUMNS[table]


@pytest.mark.parametrize("table", INDEXES)
async def test_a_table_has_the_indexes_of_the_specification_with_the_prefix_in_front(
    database: Database, table: str
) -> None:
    found = await rows(
        database.owner_url,
        f"""
        SELECT c.relname, i.indisunique, pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'acme_{table}'::regclass
        """,
    )

    on = {
        name: (
            unique,
            re.sub(r"^\((.*?)\)", r"\1", str(definition).partition(" USING btree ")[2]),
        )
        for name, unique, definition in found
    }
    assert on == INDEXES[table]


async def test_only_the_words_of_the_specification_pass_the_checks(database: Database) -> None:
    found = await rows(
        database.owner_url,
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'c' AND conrelid::regclass::text IN"
        " ('acme_agents', 'acme_credentials', 'acme_audit_events', 'acme_token_revocations')",
    )

    checks = {str(name): str(definition) for name, definition in found}
    scores = {
        checks.pop(f"acme_agents_{name}_check") for name in ("composite_score", "governance_level")
    }
    assert scores == {
        "CHECK (((composite_score >= 0) AND (composite_score <= 100)))",
        "CHECK (((governance_level >= 0) AND (governance_level <= 4)))",
    }
    words = {name: re.findall(r"'([^']+)'::", definition) for name, definition in checks.items()}
    assert words == {name: listed.split() for name, listed in WORDS_OF.items()}


async def test_keys_are_those_of_the_specification_and_the_trail_points_nowhere(
    database: Database,
) -> None:
    found = await rows(
        database.owner_url,
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype IN ('p', 'u', 'f') AND conrelid::regclass::text ~ '^acme_[a-z_]+$'",
    )

    assert {str(name): definition for name, definition in found} == {
        "acme_agents_pkey": "PRIMARY KEY (agent_id)",
        "acme_idx_agents_email": "UNIQUE (email)",
        "acme_credentials_pkey": "PRIMARY KEY (credential_id)",
        "acme_credentials_client_id_fkey": "FOREIGN KEY (client_id) REFERENCES"
        " acme_agents(agent_id) ON DELETE CASCADE",
        "acme_audit_events_pkey": "PRIMARY KEY (event_id)",
        "acme_token_revocations_pkey": "PRIMARY KEY (jti)",
        "acme_alembic_version_pkc": "PRIMARY KEY (version_num)",
    }


async def test_deleting_an_agent_by_hand_takes_its_credentials_and_leaves_its_trail(
    database: Database,
) -> None:
    agent = "'018f0000-0000-7000-8000-000000000001'"
    for statement in (
        "INSERT INTO acme_agents (agent_id, email, agent_type, version, capabilities, owner,"
        f" deployment_env) VALUES ({agent}, 'a@b.example', 'custom', '1.0.0', '{{a:b}}', 'o',"
        " 'staging')",
        "INSERT INTO acme_credentials (credential_id, client_id, secret_hash, created_at)"
        f" VALUES ({agent}, {agent}, 'x', now())",
        "INSERT INTO acme_audit_events (event_id, agent_id, action, outcome, ip_address,"
        f" user_agent) VALUES ({agent}, {agent}, 'agent.created', 'success', '::1', '-')",
        f"DELETE FROM acme_agents WHERE agent_id = {agent}",
    ):
        await rows(database.owner_url, f"WITH done AS ({statement} RETURNING 1) SELECT * FROM done")

    left = await rows(
        database.owner_url,
        "SELECT (SELECT count(*) FROM acme_credentials), (SELECT count(*) FROM acme_audit_events)",
    )
    assert left == [(0, 1)]


async def test_nothing_of_a_tenant_stands_in_the_way_of_a_distributed_database(
    database: Database,
) -> None:
    sequences = await rows(
        database.owner_url,
        "SELECT relname FROM pg_class WHERE relkind = 'S' AND relname ~ '^(acme|globex)_'",
    )
    enumerations = await rows(
        database.owner_url,
        "SELECT typname FROM pg_type WHERE typtype IN ('e', 'd')"
        " AND typnamespace = current_schema()::regnamespace",
    )
    defaults = await rows(
        database.owner_url,
        "SELECT partrelid::regclass FROM pg_partitioned_table WHERE partdefid <> 0",
    )
    across = await rows(
        database.owner_url,
        "SELECT conname FROM pg_constraint WHERE contype = 'f'"
        " AND split_part(conrelid::regclass::text, '_', 1)"
        " <> split_part(confrelid::regclass::text, '_', 1)",
    )

    assert (sequences, enumerations, defaults, across) == ([], [], [], [])


async def test_a_tenant_keeps_its_events_for_a_day_to_a_century(database: Database) -> None:
    """The same bounds as AUDIT_RETENTION_DAYS: a reckoning of dates never leaves the calendar."""
    for days in ("1", "36500", "NULL"):
        await rows(
            database.owner_url,
            f"UPDATE tenants SET retention_days = {days} WHERE slug = 'acme' RETURNING slug",
        )
    for days in ("0", "-1", "36501", "2147483647"):
        with pytest.raises(DBAPIError, match="tenants_retention_days_check"):
            await rows(
                database.owner_url,
                f"UPDATE tenants SET retention_days = {days} WHERE slug = 'acme' RETURNING slug",
            )
    assert await rows(
        database.owner_url, "SELECT retention_days FROM tenants WHERE slug = 'acme'"
    ) == [(None,)]
