"""How a revision meets the database: on the connection, and under the names, that it is given.

There is no alembic.ini: `db.postgres.chains` runs one revision at a time, inside a transaction of
its own making, and hands over the connection, the version table and, in the tenants' chain, the
`TenantPrefix` from which a revision takes every name (`op.get_context().opts["tenant"]`). Or it
hands over no connection and has the revision written down, for `db.postgres.template`.
"""

from alembic import context

given = context.config.attributes
names = {"version_table": given["version_table"], "tenant": given.get("tenant")}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql+asyncpg", literal_binds=True, **names)
else:
    context.configure(connection=given["connection"], **names)
context.run_migrations()
