"""What the operator did, and the function by which every append-only table refuses a change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from db.namespace import APPEND_ONLY_FUNCTION

revision = "0003_create_operator_events"
down_revision = "0002_create_tenants"


def upgrade() -> None:
    op.create_table(
        "operator_events",
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(24)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("ip_address", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("metadata", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column(
            "timestamp", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.PrimaryKeyConstraint("event_id", name="operator_events_pkey"),
        sa.CheckConstraint(
            "outcome IN ('success', 'failure', 'allow', 'block', 'warn', 'require_approval',"
            " 'mask')",
            name="operator_events_outcome_check",
        ),
    )
    op.execute(
        f"""
        CREATE FUNCTION {APPEND_ONLY_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
                USING ERRCODE = 'restrict_violation';
        END
        $$
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER operator_events_append_only BEFORE UPDATE OR DELETE ON operator_events
        FOR EACH ROW EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER operator_events_no_truncate BEFORE TRUNCATE ON operator_events
        FOR EACH STATEMENT EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()
        """
    )


def downgrade() -> None:
    op.drop_table("operator_events")
    op.execute(f"DROP FUNCTION {APPEND_ONLY_FUNCTION}()")
