"""Since when the kill switch of a tenant's whole fleet is engaged, and why."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0009_add_kill_switch"
down_revision = "0008_create_idempotency_keys"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("kill_switched_at", TIMESTAMP(timezone=True)))
    op.add_column("tenants", sa.Column("kill_switch_reason", sa.Text))


def downgrade() -> None:
    op.drop_column("tenants", "kill_switch_reason")
    op.drop_column("tenants", "kill_switched_at")
