"""`python -m db migrate | status | downgrade`, as a shell sees it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re

import pytest

from db import migrations
from db.postgres.chains import revisions
from tests.contract.cast import NOW
from tests.db.catalog import everything, rows, session
from tests.db.scene import call, environment, register, settings, start
from tests.servers.databases import Database

REGISTRY = revisions("registry")
TENANTS = revisions("tenants")
COMMANDS = (
    ("migrate",),
    ("migrate", "--tenant", "acme"),
    ("status",),
    ("downgrade", "--tenant", "acme", "--to", "base"),
    ("provision", "--tenant", "acme"),
)


def applied(subject: str, line: tuple[str, ...]) -> list[str]:
    return [f"✓ Applied: {subject} {revision}" for revision in line]


def skipped(subject: str, line: tuple[str, ...]) -> list[str]:
    return [f"- Skipped (already applied): {subject} {revision}" for revision in line]


async def test_migrate_says_what_it_applied_and_what_was_there(empty_database: Database) -> None:
    env = environment(empty_database)

    first = call("migrate", env=env)
    await register(empty_database, "acme")
    second = call("migrate", env=env)
    third = call("migrate", env=env)

    assert first == (0, _lines(applied("registry", REGISTRY), complete=len(REGISTRY)), "")
    assert second == (
        0,
        _lines(skipped("registry", REGISTRY), applied("acme", TENANTS), complete=len(TENANTS)),
        "",
    )
    assert third == (
        0,
        _lines(skipped("registry", REGISTRY), skipped("acme", TENANTS), complete=0),
        "",
    )


def test_migrate_of_one_tenant_leaves_the_other(database: Database) -> None:
    code, out, err = call("migrate", "--tenant", "acme", env=environment(database))

    assert (code, out, err) == (
        0,
        _lines(skipped("registry", REGISTRY), skipped("acme", TENANTS), complete=0),
        "",
    )


async def test_migrate_of_a_tenant_that_is_not_registered_fails(database: Database) -> None:
    before = await everything(database.owner_url)

    code, _, err = call("migrate", "--tenant", "wayne", env=environment(database))

    assert (code, err) == (1, "error: no tenant wayne is registered\n")
    assert await everything(database.owner_url) == before


async def test_a_tenant_that_fails_is_one_line_and_the_exit_status(
    empty_database: Database,
) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex")
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE TABLE acme_credentials (of_somebody_else int)")

    code, out, err = call("migrate", env=env)

    assert code == 1
    assert out.splitlines()[-1] == (
        f"Migrations incomplete. {len(TENANTS)} migration(s) applied, 1 tenant(s) failed."
    )
    assert [line for line in out.splitlines() if "✓" in line] == applied("globex", TENANTS)
    assert err == (
        '✗ Failed: acme 0002_create_credentials: relation "acme_credentials" already exists'
        " (SQLSTATE 42P07)\n"
    )


async def test_a_canary_that_fails_keeps_the_rest_and_it_is_said_which(
    empty_database: Database,
) -> None:
    env = environment(empty_database)
    await migrations.migrate(settings(empty_database), now=NOW)
    others = [f"t_{number:02}" for number in range(12)]
    await register(empty_database, "acme", *others)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE TABLE acme_agents (of_somebody_else int)")

    code, out, err = call("migrate", "--canary", "acme", env=env)

    assert code == 1
    assert out.splitlines()[-1] == (
        "Migrations incomplete. 0 migration(s) applied, 1 tenant(s) failed, 12 not begun."
    )
    named = ", ".join(others[:10])
    assert err.splitlines() == [
        '✗ Failed: acme 0001_create_agents: relation "acme_agents" already exists (SQLSTATE 42P07)',
        f"✗ Not begun, because too much before failed: {named} and 2 more",
    ]
    assert await rows(empty_database.owner_url, "SELECT to_regclass('t_00_agents')") == [(None,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--concurrency", "0"), "--concurrency: 1 to 32"),
        (("--concurrency", "33"), "--concurrency: 1 to 32"),
        (("--concurrency", "many"), "--concurrency: invalid"),
        (("--canary", "Acme"), "--canary: a slug has 2 to 24"),
    ],
)
async def test_migrate_refuses_what_it_cannot_mean(
    empty_database: Database, arguments: tuple[str, ...], said: str
) -> None:
    before = await everything(empty_database.owner_url)

    code, out, err = call("migrate", *arguments, env=environment(empty_database))

    assert (code, out) == (2, "")
    assert said in err
    assert await everything(empty_database.owner_url) == before


async def test_on_a_terminal_a_bar_shows_how_far_it_is_and_a_pipe_gets_the_lines(
    empty_database: Database,
) -> None:
    env = environment(empty_database, TERM="xterm", COLUMNS="80")
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex")
    terminal, screen = pty.openpty()

    with os.fdopen(terminal, "rb", buffering=0) as shown:
        process = start("migrate", env=env, stderr=screen)
        os.close(screen)
        drawn = await asyncio.to_thread(_everything_from, shown)
        out, _ = await asyncio.to_thread(process.communicate, timeout=60)

    assert process.returncode == 0
    assert out == _lines(
        skipped("registry", REGISTRY),
        applied("acme", TENANTS),
        applied("globex", TENANTS),
        complete=2 * len(TENANTS),
    )
    assert "tenants" in drawn
    assert "2/2" in drawn
    assert "Applied" not in drawn


async def test_downgrade_says_what_it_took_back(database: Database) -> None:
    code, out, err = call(
        "downgrade", "--tenant", "acme", "--to", TENANTS[2], env=environment(database)
    )

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"✓ Reverted: acme {revision}" for revision in reversed(TENANTS[3:])),
        f"Downgrade complete. {len(TENANTS) - 3} migration(s) reverted.",
    ]
    assert await rows(database.owner_url, "SELECT to_regclass('acme_token_revocations')") == [
        (None,)
    ]


async def test_downgrade_destroys_the_trail_only_when_told_so(database: Database) -> None:
    env, before = environment(database), await everything(database.owner_url)
    command = ("downgrade", "--tenant", "acme", "--to", "base")

    refused = call(*command, env=env)
    kept = await everything(database.owner_url)
    done = call(*command, "--yes", env=env)

    assert refused == (
        2,
        "",
        "error: this destroys the audit trail of acme for ever; say --yes if it is meant\n",
    )
    assert kept == before
    assert (done[0], done[2]) == (0, "")
    assert done[1].splitlines()[-1] == f"Downgrade complete. {len(TENANTS)} migration(s) reverted."
    assert (
        await rows(database.owner_url, "SELECT relname FROM pg_class WHERE relname ~ '^acme_'")
        == []
    )


@pytest.mark.parametrize(
    ("tenant", "to", "said"),
    [
        (
            "acme",
            "0099_unheard_of",
            "error: there is no revision 0099_unheard_of; there are base, ",
        ),
        ("wayne", "base", "error: no tenant wayne is registered"),
    ],
)
async def test_downgrade_refuses_what_it_does_not_know(
    database: Database, tenant: str, to: str, said: str
) -> None:
    before = await everything(database.owner_url)

    code, out, err = call(
        "downgrade", "--tenant", tenant, "--to", to, "--yes", env=environment(database)
    )

    assert (code, out) == (1, "")
    assert err.startswith(said)
    assert await everything(database.owner_url) == before


async def test_status_lists_each_tenant_and_what_was_applied_when(
    empty_database: Database,
) -> None:
    env = environment(empty_database)
    nothing = call("status", env=env)
    call("provision", "--tenant", "acme", env=env)
    await register(empty_database, "globex", status="provisioning")

    code, out, err = call("status", env=env)

    assert nothing[0] == 0
    [(number,)] = await rows(empty_database.owner_url, "SELECT split_part(version(), ' ', 2)")
    assert out.splitlines()[:2] == [f"PostgreSQL {number}", ""]
    assert _cells(nothing[1])[1] == ["registry", "", "", "not migrated"]
    assert (code, err) == (0, "")
    cells = _cells(out)
    assert cells[:5] == [
        ["name", "status", "revision", "migrations"],
        ["registry", "", REGISTRY[-1], "at head"],
        ["acme", "active", TENANTS[-1], "at head"],
        ["globex", "provisioning", "", "not migrated"],
        ["name", "revision", "applied_at", "ms", "error"],
    ]
    assert [line[:2] for line in cells[5:]] == [
        *(["registry", revision] for revision in REGISTRY),
        *(["acme", revision] for revision in TENANTS),
    ]
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00$", line[2]) for line in cells[5:]
    )
    applied_rows = f"({len(REGISTRY) + len(TENANTS)} rows)"
    assert out.count("(3 rows)") == out.count(applied_rows) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_has_nothing_to_migrate(command: tuple[str, ...]) -> None:
    said = "error: DATABASE_URL is memory://: there is no database to migrate\n"

    assert call(*command, env=environment(None, DATABASE_URL="memory://")) == (2, "", said)


def test_without_a_database_url_there_is_nothing_to_migrate_either() -> None:
    assert call("migrate", env=environment(None))[0] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_is_down_is_one_line_without_the_password(
    command: tuple[str, ...],
) -> None:
    env = environment(None, DATABASE_URL="postgresql://suite:hunter2@127.0.0.1:1/agents")

    code, _, err = call(*command, env=env)

    assert code == 1
    assert err.startswith("error: the database agents at 127.0.0.1:1 cannot be reached: ")
    assert err.count("\n") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize("command", [("migrate",), ("status",)])
async def test_a_role_that_does_not_own_the_tables_is_one_line_that_says_what_to_set(
    empty_database: Database, command: tuple[str, ...]
) -> None:
    # Made by its owner for itself alone.
    made = call(
        "provision",
        "--tenant",
        "acme",
        env=environment(None, DATABASE_URL=empty_database.owner_url),
    )
    assert made[0] == 0
    before = await everything(empty_database.owner_url)

    code, out, err = call(*command, env=environment(None, DATABASE_URL=empty_database.app_url))

    assert code != 0
    assert "✓" not in out
    assert "permission denied" in err
    assert "DATABASE_OWNER_URL has to name the role that owns the tables" in err
    assert len(err.splitlines()) == 1
    assert await everything(empty_database.owner_url) == before


def test_settings_that_cannot_be_used_are_all_listed() -> None:
    env = environment(
        None, DATABASE_URL="mysql://u:hunter2@h/d", AUDIT_RETENTION_DAYS="0", DB_POOL_SIZE="x"
    )

    code, out, err = call("migrate", env=env)

    assert (code, out) == (2, "")
    for name in ("DATABASE_URL", "AUDIT_RETENTION_DAYS", "DB_POOL_SIZE"):
        assert f"  - {name}: " in err
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_a_url_that_is_none_is_a_usage_error() -> None:
    env = environment(None, DATABASE_URL="postgresql://u:hunter2@host:port/d")

    assert call("migrate", env=env)[::2] == (
        2,
        "error: the settings cannot be used:\n"
        "  - DATABASE_URL: cannot be read as the URL of a database\n",
    )


@pytest.mark.parametrize(
    ("slug", "command"),
    [
        ('ac"me', ("provision",)),
        ("ac'me; --", ("migrate",)),
        ("a" * 64, ("provision",)),
        ("Acme", ("downgrade", "--to", "base")),
        ("public", ("provision",)),
        ("", ("migrate",)),
    ],
)
async def test_a_slug_that_cannot_be_a_prefix_is_refused_before_anything_happens(
    empty_database: Database, slug: str, command: tuple[str, ...]
) -> None:
    before = await everything(empty_database.owner_url)
    env = environment(empty_database)

    code, out, err = call(*command, "--tenant", slug, env=env)

    assert (code, out) == (2, "")
    assert err.startswith(
        ("error: --tenant: a slug has 2 to 24", "error: --tenant: this slug is res")
    )
    assert err.count("\n") == 1
    assert await everything(empty_database.owner_url) == before


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("downgrade", "--tenant", "acme"), ("provision",), ("migrate", "--force")],
)
def test_a_command_that_is_none_shows_how_it_is_used(arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments, env=environment(None))

    assert (code, out) == (2, "")
    assert err.startswith("usage: python -m db")


def test_a_terminal_without_the_tick_still_gets_its_migration(empty_database: Database) -> None:
    env = environment(empty_database, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")

    code, out, err = call("migrate", env=env)

    assert (code, err) == (0, "")
    assert "? Applied: registry 0001_create_migration_log" in out


def _lines(*parts: list[str], complete: int) -> str:
    lines = [line for part in parts for line in part]
    whole = [
        "Running database migrations...",
        *lines,
        f"Migrations complete. {complete} migration(s) applied.",
    ]
    return "".join(f"{line}\n" for line in whole)


def _everything_from(terminal: io.FileIO) -> str:
    """Until whoever draws on it has gone, which reads as an error on this side."""
    drawn = b""
    with contextlib.suppress(OSError):
        while piece := terminal.read(4096):
            drawn += piece
    return drawn.decode()


def _cells(out: str) -> list[list[str]]:
    """The rows of every table that was printed, headings included."""
    return [[cell.strip() for cell in line.split("|")] for line in out.splitlines() if "|" in line]
