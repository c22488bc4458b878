"""The registry of tenants. A slug is a table prefix, so its grammar is the database's rule too."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0002_create_tenants"
down_revision = "0001_create_migration_log"


def upgrade() -> None:
    now = sa.text("now()")
    op.create_table(
        "tenants",
        # The collation of bytes, whatever the database's own, so that pages agree everywhere.
        sa.Column("slug", sa.String(24, collation="C"), nullable=False),
        sa.Column("display_name", sa.String(128), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("revision", sa.String(64)),
        sa.Column("token_generation", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("retention_days", sa.Integer),
        sa.Column(
            "resource_servers",
            ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'::text[]"),
        ),
        sa.Column("limits", JSONB),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
        sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("slug", name="tenants_pkey"),
        sa.CheckConstraint(
            "slug ~ '^[a-z][a-z0-9_]{0,22}[a-z0-9]$' AND slug !~ '__'", name="tenants_slug_check"
        ),
        sa.CheckConstraint(
            "status IN ('provisioning', 'active', 'suspended', 'removing', 'removed', 'failed')",
            name="tenants_status_check",
        ),
        sa.CheckConstraint(
            "retention_days BETWEEN 1 AND 36500", name="tenants_retention_days_check"
        ),
    )
    op.create_index("idx_tenants_status", "tenants", ["status"])


def downgrade() -> None:
    op.drop_table("tenants")
