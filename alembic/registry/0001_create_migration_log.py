"""What was migrated, when, and what failed: first, so that every later revision is in it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0001_create_migration_log"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "migration_log",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.String(24)),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column(
            "applied_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.Column("ms", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="migration_log_pkey"),
    )
    op.create_index("idx_migration_log_tenant", "migration_log", ["tenant", "id"])


def downgrade() -> None:
    op.drop_table("migration_log")
