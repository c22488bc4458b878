"""The tables as they are now, declared once for every tenant.

`{t}` stands for the tenant: the braces force SQLAlchemy to quote the name, and the PostgreSQL
backend replaces `"{t}` by the prefix of the tenant that is bound, or refuses the statement. Tests
hold these declarations equal to what the migrations make; migrations never import them.

Source: the column tables of the data specification, plus profile, score and token generation.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from db import namespace
from db.records import (
    AgentStatus,
    AgentType,
    AuditAction,
    AuditOutcome,
    CredentialStatus,
    DeploymentEnv,
    Severity,
    SigningKeyStatus,
    TenantStatus,
)
from db.work import JobName, WorkState

TENANT_TOKEN = "{t}"

tenant_metadata = MetaData()
registry_metadata = MetaData()

_NOW = text("now()")
_NO_WORDS = text("'{}'::text[]")
_NO_MEMBERS = text("'{}'::jsonb")


def _one_of(column: str, words: type[StrEnum], name: str) -> CheckConstraint:
    allowed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({allowed})", name=name)


def _instant(name: str, *, null: bool = False, now: bool = False) -> Column[object]:
    return Column(
        name, TIMESTAMP(timezone=True), nullable=null, server_default=_NOW if now else None
    )


def _words(name: str, *, empty: bool = False) -> Column[object]:
    return Column(name, ARRAY(Text), nullable=False, server_default=_NO_WORDS if empty else None)


agents = Table(
    "{t}agents",
    tenant_metadata,
    Column("agent_id", Uuid, nullable=False),
    Column("email", String(255), nullable=False),
    Column("agent_type", String(32), nullable=False),
    Column("version", String(64), nullable=False),
    _words("capabilities"),
    Column("owner", String(128), nullable=False),
    Column("deployment_env", String(16), nullable=False),
    Column("status", String(24), nullable=False, server_default=text("'active'")),
    _instant("created_at", now=True),
    _instant("updated_at", now=True),
    Column("name", String(128)),
    Column("framework", String(64)),
    Column("description", Text),
    _words("channels", empty=True),
    _words("tools", empty=True),
    Column("permissions", JSONB(none_as_null=True)),
    Column("metadata", JSONB(none_as_null=True)),
    Column("composite_score", SmallInteger, nullable=False, server_default=text("0")),
    Column("governance_level", SmallInteger, nullable=False, server_default=text("0")),
    Column("token_generation", Integer, nullable=False, server_default=text("0")),
    _instant("kill_switched_at", null=True),
    Column("kill_switch_reason", Text),
    PrimaryKeyConstraint("agent_id", name="{t}agents_pkey"),
    # One object is both the UNIQUE constraint and the index that the specification names.
    UniqueConstraint("email", name="{t}idx_agents_email"),
    _one_of("agent_type", AgentType, "{t}agents_agent_type_check"),
    _one_of("deployment_env", DeploymentEnv, "{t}agents_deployment_env_check"),
    _one_of("status", AgentStatus, "{t}agents_status_check"),
    CheckConstraint("composite_score BETWEEN 0 AND 100", name="{t}agents_composite_score_check"),
    CheckConstraint("governance_level BETWEEN 0 AND 4", name="{t}agents_governance_level_check"),
)
Index("{t}idx_agents_status", agents.c.status)
Index("{t}idx_agents_owner", agents.c.owner)
Index("{t}idx_agents_agent_type", agents.c.agent_type)
Index("{t}idx_agents_created_at", desc(agents.c.created_at))
# What the warming of the revocation cache asks for again and again: few rows of large tables.
Index(
    "{t}idx_agents_cut_at",
    agents.c.updated_at,
    postgresql_where=text("token_generation > 0"),
)

credentials = Table(
    "{t}credentials",
    tenant_metadata,
    Column("credential_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("secret_hash", String(255), nullable=False),
    Column("status", String(16), nullable=False, server_default=text("'active'")),
    _instant("created_at"),
    _instant("expires_at", null=True),
    _instant("revoked_at", null=True),
    Column("label", String(64)),
    _instant("last_used_at", null=True),
    Column("secret_tag", String(8)),
    Column("public_key", JSONB(none_as_null=True)),
    Column("replaced_by", Uuid),
    PrimaryKeyConstraint("credential_id", name="{t}credentials_pkey"),
    ForeignKeyConstraint(
        ["client_id"],
        ["{t}agents.agent_id"],
        name="{t}credentials_client_id_fkey",
        ondelete="CASCADE",
    ),
    _one_of("status", CredentialStatus, "{t}credentials_status_check"),
)
Index("{t}idx_credentials_client_id", credentials.c.client_id)
Index("{t}idx_credentials_status", credentials.c.status)
Index("{t}idx_credentials_created_at", desc(credentials.c.created_at))
Index(
    "{t}idx_credentials_revoked_at",
    credentials.c.revoked_at,
    postgresql_where=text("revoked_at IS NOT NULL"),
)
# What is still to be shown as ended (measured on 200,000 rows: 21 ms without it, 0.02 ms with it).
Index(
    "{t}idx_credentials_expires_at",
    credentials.c.expires_at,
    postgresql_where=text("status = 'active' AND expires_at IS NOT NULL"),
)

audit_events = Table(
    "{t}audit_events",
    tenant_metadata,
    Column("event_id", Uuid, nullable=False),
    Column("agent_id", Uuid, nullable=False),
    Column("action", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("ip_address", String(64), nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default=_NO_MEMBERS),
    _instant("timestamp", now=True),
    Column("severity", String(16), nullable=False, server_default=text("'info'")),
    Column("event_type", String(64)),
    Column("policy_rule_id", String(128)),
    PrimaryKeyConstraint("event_id", name="{t}audit_events_pkey"),
    _one_of("action", AuditAction, "{t}audit_events_action_check"),
    _one_of("outcome", AuditOutcome, "{t}audit_events_outcome_check"),
    _one_of("severity", Severity, "{t}audit_events_severity_check"),
    postgresql_partition_by="RANGE (event_id)",
)
# With the id behind it, one index serves an agent's trail page by page (measured: 10×).
Index("{t}idx_audit_events_agent_id", audit_events.c.agent_id, audit_events.c.event_id)
Index("{t}idx_audit_events_action", audit_events.c.action)
Index("{t}idx_audit_events_outcome", audit_events.c.outcome)
Index("{t}idx_audit_events_timestamp", desc(audit_events.c.timestamp))

token_revocations = Table(
    "{t}token_revocations",
    tenant_metadata,
    Column("jti", Uuid, nullable=False),
    _instant("expires_at"),
    _instant("revoked_at", now=True),
    PrimaryKeyConstraint("jti", name="{t}token_revocations_pkey"),
)
Index("{t}idx_token_revocations_expires_at", token_revocations.c.expires_at)
Index("{t}idx_token_revocations_revoked_at", token_revocations.c.revoked_at)

tenants = Table(
    "tenants",
    registry_metadata,
    # Sorted by its bytes whatever the database's collation, so that pages agree everywhere.
    Column("slug", String(24, collation="C"), nullable=False),
    Column("display_name", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("revision", String(64)),
    Column("token_generation", Integer, nullable=False, server_default=text("0")),
    Column("retention_days", Integer),
    _words("resource_servers", empty=True),
    Column("limits", JSONB(none_as_null=True)),
    _instant("created_at", now=True),
    _instant("updated_at", now=True),
    Column("status_reason", Text),
    Column("administrator_id", Uuid),
    _instant("kill_switched_at", null=True),
    Column("kill_switch_reason", Text),
    PrimaryKeyConstraint("slug", name="tenants_pkey"),
    CheckConstraint(
        f"slug ~ '^{namespace.PREFIX_PATTERN}$' AND slug !~ '__'", name="tenants_slug_check"
    ),
    _one_of("status", TenantStatus, "tenants_status_check"),
    CheckConstraint("retention_days BETWEEN 1 AND 36500", name="tenants_retention_days_check"),
)
Index("idx_tenants_status", tenants.c.status)

migration_log = Table(
    "migration_log",
    registry_metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    # NULL for the registry's own chain.
    Column("tenant", String(24)),
    Column("revision", String(64), nullable=False),
    _instant("applied_at", now=True),
    Column("ms", Integer, nullable=False),
    Column("error", Text),
    PrimaryKeyConstraint("id", name="migration_log_pkey"),
)
Index("idx_migration_log_tenant", migration_log.c.tenant, migration_log.c.id)

operator_events = Table(
    "operator_events",
    registry_metadata,
    Column("event_id", Uuid, nullable=False),
    Column("action", String(32), nullable=False),
    Column("tenant", String(24)),
    Column("outcome", String(16), nullable=False),
    Column("ip_address", String(64), nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default=_NO_MEMBERS),
    _instant("timestamp", now=True),
    PrimaryKeyConstraint("event_id", name="operator_events_pkey"),
    _one_of("outcome", AuditOutcome, "operator_events_outcome_check"),
)

signing_keys = Table(
    "signing_keys",
    registry_metadata,
    Column("kid", String(64), nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("status", String(16), nullable=False),
    _instant("created_at", now=True),
    _instant("changed_at"),
    PrimaryKeyConstraint("kid", name="signing_keys_pkey"),
    _one_of("status", SigningKeyStatus, "signing_keys_status_check"),
)
Index(
    "idx_signing_keys_signing",
    signing_keys.c.status,
    unique=True,
    postgresql_where=text("status = 'signing'"),
)

work = Table(
    "work",
    registry_metadata,
    Column("key", String(64, collation="C"), nullable=False),
    Column("job", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    _instant("run_after"),
    _instant("created_at"),
    Column("tenant", String(24)),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("worker", String(128)),
    _instant("lease_until", null=True),
    Column("progress", JSONB(none_as_null=True)),
    Column("report", JSONB(none_as_null=True)),
    Column("last_error", Text),
    _instant("started_at", null=True),
    _instant("finished_at", null=True),
    _instant("succeeded_at", null=True),
    Column("ms", BigInteger),
    # Beside the record, and in none: what a job needs to know and nobody may read.
    Column("payload", JSONB(none_as_null=True)),
    PrimaryKeyConstraint("key", name="work_pkey"),
    _one_of("job", JobName, "work_job_check"),
    _one_of("state", WorkState, "work_state_check"),
)
Index(
    "idx_work_open",
    work.c.run_after,
    postgresql_where=text("state IN ('queued', 'running')"),
)

purge_log = Table(
    "purge_log",
    registry_metadata,
    Column("purge_id", Uuid, nullable=False),
    Column("tenant", String(24), nullable=False),
    Column("partition", String(63), nullable=False),
    _instant("lower", null=True),
    _instant("upper"),
    _instant("before"),
    Column("events", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    _instant("purged_at"),
    PrimaryKeyConstraint("purge_id", name="purge_log_pkey"),
    UniqueConstraint("tenant", "partition", name="idx_purge_log_partition"),
)

idempotency_keys = Table(
    "idempotency_keys",
    registry_metadata,
    Column("scope", String(64), nullable=False),
    Column("key", Uuid, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("result", JSONB, nullable=False),
    _instant("created_at"),
    PrimaryKeyConstraint("scope", "key", name="idempotency_keys_pkey"),
)
Index("idx_idempotency_keys_created_at", idempotency_keys.c.created_at)
