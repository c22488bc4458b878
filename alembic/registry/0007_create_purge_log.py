"""Which months of whose trail are gone, and what they held."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0007_create_purge_log"
down_revision = "0006_create_work"


def upgrade() -> None:
    op.create_table(
        "purge_log",
        sa.Column("purge_id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.String(24), nullable=False),
        sa.Column("partition", sa.String(63), nullable=False),
        sa.Column("lower", TIMESTAMP(timezone=True)),
        sa.Column("upper", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("before", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("purged_at", TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("purge_id", name="purge_log_pkey"),
        sa.UniqueConstraint("tenant", "partition", name="idx_purge_log_partition"),
    )


def downgrade() -> None:
    op.drop_table("purge_log")
