"""The locks can be installed from any index, and both install the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;]+)(?: ; ([^\\]+?))? \\$", re.MULTILINE)


def pins(lock: str) -> dict[str, tuple[str, str]]:
    """The version and the marker of each project in a lock."""
    text = (_ROOT / lock).read_text()
    return {name: (version, marker) for name, version, marker in _PIN.findall(text)}


def dependencies(*, dev: bool) -> set[str]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"]["dev"] if dev else project["dependencies"]
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in listed}


def tracked_locks() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.lock", "*lock.json", "*lock.yaml"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [_ROOT / name for name in listed.stdout.split()]


def test_no_lock_holds_an_address() -> None:
    locks = tracked_locks()
    assert {path.name for path in locks} >= {"requirements.lock", "requirements-dev.lock"}
    for path in locks:
        addresses = re.findall(
            r"\S*(?:://|--(?:extra-)?index-url|--find-links)\S*", path.read_text()
        )
        assert addresses == [], path.name


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_line_of_a_lock_is_a_pin_or_its_hash(lock: str) -> None:
    rest = _PIN.sub("", (_ROOT / lock).read_text())
    other = [
        line for line in rest.splitlines() if line and not line.startswith("    --hash=sha256:")
    ]
    assert other == []


def test_the_dev_lock_has_every_pin_of_the_other() -> None:
    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert len(runtime) > 20
    assert {name: dev.get(name) for name in runtime} == runtime


def test_every_dependency_is_locked() -> None:
    assert dependencies(dev=False) <= pins("requirements.lock").keys()
    assert dependencies(dev=True) <= pins("requirements-dev.lock").keys()
