"""What credentials need to be rotated with an overlap, and to be a key instead of a secret."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006_add_rotation"
down_revision = "0005_index_cuts"


def upgrade() -> None:
    table = op.get_context().opts["tenant"].table("credentials")
    op.add_column(table, sa.Column("secret_tag", sa.String(8)))
    op.add_column(table, sa.Column("public_key", JSONB(none_as_null=True)))
    op.add_column(table, sa.Column("replaced_by", sa.Uuid))


def downgrade() -> None:
    table = op.get_context().opts["tenant"].table("credentials")
    op.drop_column(table, "replaced_by")
    op.drop_column(table, "public_key")
    op.drop_column(table, "secret_tag")
