"""The agent registry: one row for each identity."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0001_create_agents"
down_revision = None


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    agents = tenant.table("agents")
    now = sa.text("now()")
    nothing = sa.text("'{}'::text[]")
    zero = sa.text("0")
    op.create_table(
        agents,
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("email", sa.String(255), nullable=False),
        sa.Column("agent_type", sa.String(32), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("capabilities", ARRAY(sa.Text), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("deployment_env", sa.String(16), nullable=False),
        sa.Column("status", sa.String(24), nullable=False, server_default=sa.text("'active'")),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
        sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
        sa.Column("name", sa.String(128)),
        sa.Column("framework", sa.String(64)),
        sa.Column("description", sa.Text),
        sa.Column("channels", ARRAY(sa.Text), nullable=False, server_default=nothing),
        sa.Column("tools", ARRAY(sa.Text), nullable=False, server_default=nothing),
        sa.Column("permissions", JSONB),
        sa.Column("metadata", JSONB),
        sa.Column("composite_score", sa.SmallInteger, nullable=False, server_default=zero),
        sa.Column("governance_level", sa.SmallInteger, nullable=False, server_default=zero),
        sa.Column("token_generation", sa.Integer, nullable=False, server_default=zero),
        sa.PrimaryKeyConstraint("agent_id", name=tenant.constraint("agents_pkey")),
        # One object is both the UNIQUE constraint and the index that the specification names.
        sa.UniqueConstraint("email", name=tenant.index("idx_agents_email")),
        sa.CheckConstraint(
            "agent_type IN ('screener', 'classifier', 'orchestrator', 'extractor', 'summarizer',"
            " 'router', 'monitor', 'custom')",
            name=tenant.constraint("agents_agent_type_check"),
        ),
        sa.CheckConstraint(
            "deployment_env IN ('development', 'staging', 'production')",
            name=tenant.constraint("agents_deployment_env_check"),
        ),
        sa.CheckConstraint(
            "status IN ('active', 'suspended', 'decommissioned')",
            name=tenant.constraint("agents_status_check"),
        ),
        sa.CheckConstraint(
            "composite_score BETWEEN 0 AND 100",
            name=tenant.constraint("agents_composite_score_check"),
        ),
        sa.CheckConstraint(
            "governance_level BETWEEN 0 AND 4",
            name=tenant.constraint("agents_governance_level_check"),
        ),
    )
    op.create_index(tenant.index("idx_agents_status"), agents, ["status"])
    op.create_index(tenant.index("idx_agents_owner"), agents, ["owner"])
    op.create_index(tenant.index("idx_agents_agent_type"), agents, ["agent_type"])
    op.create_index(tenant.index("idx_agents_created_at"), agents, [sa.text("created_at DESC")])


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("agents"))
