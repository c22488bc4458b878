"""Since when a signing key has the status that it has."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0010_note_key_changes"
down_revision = "0009_add_kill_switch"


def upgrade() -> None:
    op.add_column("signing_keys", sa.Column("changed_at", TIMESTAMP(timezone=True)))
    op.execute("UPDATE signing_keys SET changed_at = created_at")
    op.alter_column("signing_keys", "changed_at", nullable=False)


def downgrade() -> None:
    op.drop_column("signing_keys", "changed_at")
