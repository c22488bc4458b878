"""The README says what is so: its commands are run, its table is the settings classes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from gateway.demo import banner
from gateway.settings import GatewaySettings
from tests.servers.databases import Database
from workers.queue import catalogue

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def environment(**given: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8", **given}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def running(command: str, **given: str) -> Iterator[str]:
    """The whole banner of a command that serves, until the block ends."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=ROOT,
        env=environment(**given),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        yield _until_ready(process.stdout)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)


def _until_ready(output: IO[str]) -> str:
    said = ""
    for line in output:
        said += line
        if line.startswith("Ctrl-C stops it."):
            return said
    raise AssertionError(f"it never became ready:\n{said}")


def paste(text: str) -> str:
    """What a newcomer sees after pasting the lines below «in this order»."""
    lines = text.partition("in this order:\n")[2].partition("Ctrl-C stops it.")[0]
    shell = subprocess.run(
        ["sh", "-e"], input=lines, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert shell.returncode == 0, shell.stderr
    return shell.stdout


def assert_whole_story(output: str) -> None:
    assert '"registerAgent":{"agent":{"agentId"' in output.replace(" ", "")
    assert re.search(r"^eyJ[\w-]+\.[\w-]+\.[\w-]+$", output, re.MULTILINE), "no access token"
    trail = output[output.index('"auditEvents"') :]
    for action in ("AGENT_CREATED", "CREDENTIAL_GENERATED", "TOKEN_ISSUED"):
        assert action in trail
    assert "sk_live_" not in trail
    assert '"errors"' not in output


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 180


def test_nothing_in_it_is_still_to_be_filled_in() -> None:
    assert "@@" not in README
    shown = next(text for kind, text in BLOCKS if kind == "text" and "passed" in text)
    assert re.search(r"^\d{4} passed in [\d.]+s", shown, re.MULTILINE)


def test_every_path_that_it_names_exists() -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\w[\w-]*\.(?:py|md|yaml|toml))`", README))
    named |= set(re.findall(r"\]\(([^)#]+)\)", README))
    named -= {".data/"}
    rooms = [ROOT, ROOT / "db", ROOT / "gateway", ROOT / "workers", ROOT / "tests"]

    assert not [each for each in named if not any((room / each).exists() for room in rooms)]


def test_its_settings_table_is_the_settings_classes() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| (.+) \|$", README, re.MULTILINE)
    expected = []
    for name, field in GatewaySettings.model_fields.items():
        default = getattr(field.default, "value", field.default)
        text = str(default).lower() if isinstance(default, bool) else str(default)
        shown = "–" if default in (None, "", ()) else f"`{text}`"
        expected.append((name.upper(), shown, field.description))

    assert table == expected


def test_its_table_of_jobs_is_the_list() -> None:
    table = re.findall(r"^\| `([a-z_]+)` \| (.+?) \| (.+) \|$", README, re.MULTILINE)
    expected = []
    for job in catalogue():
        otherwise = "when a tenant needs it" if job.of_tenant else "on demand"
        expected.append((job.name.value, job.schedule or otherwise, job.reason))

    assert table == expected


def test_the_banner_that_it_shows_is_the_one_that_is_printed() -> None:
    shown = next(text for kind, text in BLOCKS if kind == "text" and "is ready" in text)
    operator = re.search(r"operator token  (\S+)", shown)
    client = re.search(rf"demo client     ({UUID})", shown)
    secret = re.search(r"demo secret     (sk_live_[0-9a-f]{64})", shown)
    assert operator
    assert client
    assert secret

    printed = banner("http://127.0.0.1:8000", operator[1], client[1], secret[1])

    assert printed.lstrip("\n").startswith(shown)


def test_every_shell_block_is_run_by_a_test_here() -> None:
    assert SHELL == [RUN, TEST, POSTGRES, MIGRATE]


RUN = "make run\n"
TEST = "make test\n"
POSTGRES = (
    'DATABASE_URL="postgresql://agentidp:secret@localhost/agentidp" '
    'KEY_ENCRYPTION_SECRET="0123456789abcdef0123456789abcdef" make run\n'
)
MIGRATE = ".venv/bin/python -m db migrate\n.venv/bin/python -m db status\n"


def test_one_command_runs_it_and_what_it_prints_can_be_pasted() -> None:
    with running(RUN, PORT=free_port()) as said:
        output = paste(said)

    assert_whole_story(output)


def test_what_is_set_already_is_honoured() -> None:
    operator, port = "an-operator-token-of-our-own-choice", free_port()

    with running(RUN, PORT=port, OPERATOR_TOKEN=operator) as said:
        assert f"operator token  {operator}\n" in said
        assert f"http://127.0.0.1:{port}/graphql" in said


def test_one_line_switches_to_postgresql(empty_database: Database) -> None:
    command = POSTGRES.replace(
        "postgresql://agentidp:secret@localhost/agentidp", empty_database.owner_url
    )

    with running(command, PORT=free_port()) as said:
        output = paste(said)
    with running(command, PORT=free_port()) as again:
        assert "The demo tenant is there already." in again

    assert_whole_story(output)


def test_migrations_are_run_and_shown(empty_database: Database) -> None:
    done = subprocess.run(
        ["sh", "-e", "-c", MIGRATE],
        cwd=ROOT,
        env=environment(
            DATABASE_URL=empty_database.app_url, DATABASE_OWNER_URL=empty_database.owner_url
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "Migrations complete." in done.stdout


def test_the_tests_are_run_by_the_gate_with_the_same_command() -> None:
    assert re.search(rf"^{TEST.strip()}\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", ["run", "test", "stack", "lint", "lock"])
def test_every_make_target_that_the_documents_name_is_there(target: str) -> None:
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()

    assert f"make {target}" in documents
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
