"""Revoked tokens, for as long as they would have lived: what outlasts an emptied cache."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004_create_token_revocations"
down_revision = "0003_create_audit_events"


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    token_revocations = tenant.table("token_revocations")
    op.create_table(
        token_revocations,
        sa.Column("jti", sa.Uuid, nullable=False),
        sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "revoked_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.PrimaryKeyConstraint("jti", name=tenant.constraint("token_revocations_pkey")),
    )
    op.create_index(
        tenant.index("idx_token_revocations_expires_at"), token_revocations, ["expires_at"]
    )


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("token_revocations"))
