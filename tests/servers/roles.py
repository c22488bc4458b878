"""The database of `make stack` and its two roles: one owns the tables, the other serves."""

from __future__ import annotations

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.servers.databases import run

DATABASE = "agentidp"
OWNER = "agentidp_owner"
APP = "agentidp_app"

# The passwords are ours, random and URL-safe: they need no quoting.
_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
END $$
"""


def make_database(superuser_url: str, owner_password: str, app_password: str) -> None:
    """Repeating it is harmless; the passwords are then those given last."""

    async def make(connection: AsyncConnection) -> None:
        for role, password in ((OWNER, owner_password), (APP, app_password)):
            await connection.exec_driver_sql(_ROLE.format(role=role))
            await connection.exec_driver_sql(f"ALTER ROLE {role} LOGIN PASSWORD '{password}'")
        found = await connection.exec_driver_sql(
            f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"
        )
        if found.first() is None:
            await connection.exec_driver_sql(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
            # Nobody else has business here, and the roles' passwords say who they are.
            await connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
            await connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {DATABASE} TO {APP}")

    run(superuser_url, make)


def role_url(server_url: str, role: str, password: str) -> str:
    url = make_url(server_url).set(username=role, password=password, database=DATABASE)
    return url.render_as_string(hide_password=False)
