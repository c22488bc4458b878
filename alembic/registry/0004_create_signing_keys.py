"""The keys that sign tokens, encrypted; at most one of them signs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004_create_signing_keys"
down_revision = "0003_create_operator_events"


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("private_key", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column(
            "created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.PrimaryKeyConstraint("kid", name="signing_keys_pkey"),
        sa.CheckConstraint(
            "status IN ('published', 'signing', 'retired')", name="signing_keys_status_check"
        ),
    )
    op.create_index(
        "idx_signing_keys_signing",
        "signing_keys",
        ["status"],
        unique=True,
        postgresql_where=sa.text("status = 'signing'"),
    )


def downgrade() -> None:
    op.drop_table("signing_keys")
