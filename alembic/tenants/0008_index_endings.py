"""By when credentials end: what shows them as ended asks for it every few minutes."""

import sqlalchemy as sa
from alembic import op

revision = "0008_index_endings"
down_revision = "0007_add_kill_switch"


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.create_index(
        tenant.index("idx_credentials_expires_at"),
        tenant.table("credentials"),
        ["expires_at"],
        postgresql_where=sa.text("status = 'active' AND expires_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(op.get_context().opts["tenant"].index("idx_credentials_expires_at"))
