"""By when tokens were cut: what keeps the revocation cache warm asks for it every few seconds."""

import sqlalchemy as sa
from alembic import op

revision = "0005_index_cuts"
down_revision = "0004_create_token_revocations"


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.create_index(
        tenant.index("idx_agents_cut_at"),
        tenant.table("agents"),
        ["updated_at"],
        postgresql_where=sa.text("token_generation > 0"),
    )
    op.create_index(
        tenant.index("idx_credentials_revoked_at"),
        tenant.table("credentials"),
        ["revoked_at"],
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_index(
        tenant.index("idx_token_revocations_revoked_at"),
        tenant.table("token_revocations"),
        ["revoked_at"],
    )


def downgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.drop_index(tenant.index("idx_token_revocations_revoked_at"))
    op.drop_index(tenant.index("idx_credentials_revoked_at"))
    op.drop_index(tenant.index("idx_agents_cut_at"))
