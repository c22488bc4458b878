"""Why a tenant is not active, and who its first administrator is."""

import sqlalchemy as sa
from alembic import op

revision = "0005_add_tenant_lifecycle"
down_revision = "0004_create_signing_keys"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("status_reason", sa.Text))
    op.add_column("tenants", sa.Column("administrator_id", sa.Uuid))


def downgrade() -> None:
    op.drop_column("tenants", "administrator_id")
    op.drop_column("tenants", "status_reason")
