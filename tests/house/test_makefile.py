"""The commands that people and the gate type are there, and a wrong Python is told so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("run", "-m gateway.demo"),
        ("test", "-m pytest -n 2 -q"),
        ("stack", "-m tests.servers.stack"),
        ("lint", "-m mypy"),
    ],
)
def test_each_command_runs_one_thing_from_the_checkout(target: str, command: str) -> None:
    shown = make(target)
    assert shown.returncode == 0
    assert shown.stdout.rstrip().endswith(command)


def test_a_python_that_is_too_old_or_not_there_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho old\n")
    old.chmod(0o755)
    for python, reason in [(str(old), "is too old"), (str(tmp_path / "none"), "does not run")]:
        refused = make("test", f"PYTHON={python}")
        assert refused.returncode != 0
        assert f'"{python}" {reason}. AgentIdP needs Python 3.11 or newer' in refused.stderr


def test_the_gate_calls_the_command_for_the_tests() -> None:
    gate = _ROOT / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    assert {"make test", "make lint"} <= set(gate.read_text().replace(" ||", "\n").splitlines())
