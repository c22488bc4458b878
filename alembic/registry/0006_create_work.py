"""What is waiting to be done by time: a row for each job, or for each job and tenant."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0006_create_work"
down_revision = "0005_add_tenant_lifecycle"


def upgrade() -> None:
    zero = sa.text("0")
    op.create_table(
        "work",
        sa.Column("key", sa.String(64, collation="C"), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("run_after", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("tenant", sa.String(24)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=zero),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=zero),
        sa.Column("worker", sa.String(128)),
        sa.Column("lease_until", TIMESTAMP(timezone=True)),
        sa.Column("progress", JSONB),
        sa.Column("report", JSONB),
        sa.Column("last_error", sa.Text),
        sa.Column("started_at", TIMESTAMP(timezone=True)),
        sa.Column("finished_at", TIMESTAMP(timezone=True)),
        sa.Column("succeeded_at", TIMESTAMP(timezone=True)),
        sa.Column("ms", sa.BigInteger),
        sa.Column("payload", JSONB),
        sa.PrimaryKeyConstraint("key", name="work_pkey"),
        sa.CheckConstraint(
            "job IN ('provision_tenant', 'remove_tenant', 'migrate_fleet', 'warm_revocations',"
            " 'tail_revocations', 'sweep_revocations', 'expire_credentials',"
            " 'ensure_audit_partitions', 'purge_audit_events')",
            name="work_job_check",
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')",
            name="work_state_check",
        ),
    )
    op.create_index(
        "idx_work_open",
        "work",
        ["run_after"],
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )


def downgrade() -> None:
    op.drop_table("work")
