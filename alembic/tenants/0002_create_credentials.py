"""Client credentials: an agent has any number of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0002_create_credentials"
down_revision = "0001_create_agents"


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    credentials = tenant.table("credentials")
    op.create_table(
        credentials,
        sa.Column("credential_id", sa.Uuid, nullable=False),
        sa.Column("client_id", sa.Uuid, nullable=False),
        sa.Column("secret_hash", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, server_default=sa.text("'active'")),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", TIMESTAMP(timezone=True)),
        sa.Column("revoked_at", TIMESTAMP(timezone=True)),
        sa.Column("label", sa.String(64)),
        sa.Column("last_used_at", TIMESTAMP(timezone=True)),
        sa.PrimaryKeyConstraint("credential_id", name=tenant.constraint("credentials_pkey")),
        sa.ForeignKeyConstraint(
            ["client_id"],
            [f"{tenant.table('agents')}.agent_id"],
            name=tenant.constraint("credentials_client_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "status IN ('active', 'revoked')", name=tenant.constraint("credentials_status_check")
        ),
    )
    op.create_index(tenant.index("idx_credentials_client_id"), credentials, ["client_id"])
    op.create_index(tenant.index("idx_credentials_status"), credentials, ["status"])
    op.create_index(
        tenant.index("idx_credentials_created_at"), credentials, [sa.text("created_at DESC")]
    )


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("credentials"))
