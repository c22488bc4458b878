"""Since when an agent's kill switch is engaged, and why; its status is not touched by that."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0007_add_kill_switch"
down_revision = "0006_add_rotation"


def upgrade() -> None:
    table = op.get_context().opts["tenant"].table("agents")
    op.add_column(table, sa.Column("kill_switched_at", TIMESTAMP(timezone=True)))
    op.add_column(table, sa.Column("kill_switch_reason", sa.Text))


def downgrade() -> None:
    table = op.get_context().opts["tenant"].table("agents")
    op.drop_column(table, "kill_switch_reason")
    op.drop_column(table, "kill_switched_at")
