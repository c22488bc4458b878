"""The trail: partitioned by month through the time in `event_id`, and append-only.

Partitions are data and are made with the tables, by `db.postgres.partitions`. The row trigger is
cloned to each of them by PostgreSQL; the one on TRUNCATE is not, and each gets its own there.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from db.namespace import APPEND_ONLY_FUNCTION

revision = "0003_create_audit_events"
down_revision = "0002_create_credentials"

# What nothing can bring back, once the way down has passed this revision.
DESTROYS = "the audit trail"


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    audit_events = tenant.table("audit_events")
    op.create_table(
        audit_events,
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("ip_address", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("metadata", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column(
            "timestamp", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.Column("severity", sa.String(16), nullable=False, server_default=sa.text("'info'")),
        sa.Column("event_type", sa.String(64)),
        sa.Column("policy_rule_id", sa.String(128)),
        sa.PrimaryKeyConstraint("event_id", name=tenant.constraint("audit_events_pkey")),
        sa.CheckConstraint(
            "action IN ('agent.created', 'agent.updated', 'agent.decommissioned',"
            " 'agent.suspended', 'agent.reactivated', 'token.issued', 'token.revoked',"
            " 'token.introspected', 'credential.generated', 'credential.rotated',"
            " 'credential.revoked', 'auth.failed', 'policy.evaluated', 'kill_switch.engaged',"
            " 'kill_switch.released', 'custom')",
            name=tenant.constraint("audit_events_action_check"),
        ),
        sa.CheckConstraint(
            "outcome IN ('success', 'failure', 'allow', 'block', 'warn', 'require_approval',"
            " 'mask')",
            name=tenant.constraint("audit_events_outcome_check"),
        ),
        sa.CheckConstraint(
            "severity IN ('info', 'warning', 'critical')",
            name=tenant.constraint("audit_events_severity_check"),
        ),
        postgresql_partition_by="RANGE (event_id)",
    )
    op.create_index(
        tenant.index("idx_audit_events_agent_id"), audit_events, ["agent_id", "event_id"]
    )
    op.create_index(tenant.index("idx_audit_events_action"), audit_events, ["action"])
    op.create_index(tenant.index("idx_audit_events_outcome"), audit_events, ["outcome"])
    op.create_index(
        tenant.index("idx_audit_events_timestamp"), audit_events, [sa.text('"timestamp" DESC')]
    )
    op.execute(
        f"""
        CREATE TRIGGER {tenant.trigger("audit_events_append_only")}
        BEFORE UPDATE OR DELETE ON {audit_events}
        FOR EACH ROW EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER {tenant.trigger("audit_events_no_truncate")}
        BEFORE TRUNCATE ON {audit_events}
        FOR EACH STATEMENT EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()
        """
    )


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("audit_events"))
