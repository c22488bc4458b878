"""Who may import whom. A breach is shown as the offending line and the law it breaks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("db", "gateway", "workers", "tests")

# A room (by the beginning of its module name; the longest counts) → what of ours it may import.
LAW = {
    "db": ("db",),
    "db.memory": ("db", "!db.postgres", "!db.tables"),
    "db.postgres": ("db", "!db.memory"),
    "alembic": ("db", "!db.tables"),
    "workers": ("db", "workers"),
    "gateway": ("db", "gateway"),
    "gateway.wiring": ("db", "gateway", "workers.queue"),
    "gateway.auth": ("db", "gateway.auth", "gateway.settings"),
    "gateway.services": ("db", "gateway.auth", "gateway.services"),
    "gateway.oauth": ("db", "gateway", "!gateway.graphql"),
    "gateway.graphql": ("db", "gateway", "!gateway.oauth"),
}
KNOWS_BOTH_BACKENDS = {"db.backends"}
NO_TRANSPORT = ("db", "workers", "gateway.auth", "gateway.services")
TRANSPORTS = ("strawberry", "litestar", "graphql", "uvicorn")


def modules() -> Iterator[tuple[str, Path]]:
    for top in ("db", "gateway", "workers", "alembic"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def law_of(module: str) -> tuple[str, ...]:
    return LAW[max((room for room in LAW if within(module, room)), key=len)]


def breaches(module: str, path: Path) -> Iterator[str]:
    for line, imported in imports(path):
        where = f"{path}:{line} imports {imported}"
        if imported.split(".")[0] in OURS:
            law = law_of(module)
            allowed = any(within(imported, room) for room in law if room[0] != "!")
            if imported in OURS and not allowed:
                allowed = any(room.split(".")[0] == imported for room in law)
            forbidden = any(within(imported, room[1:]) for room in law if room[0] == "!")
            if not allowed or forbidden:
                yield f"{where}; {module} may import {', '.join(law)}"
        if any(within(module, room) for room in NO_TRANSPORT) and imported.split(".")[0] in (
            TRANSPORTS
        ):
            yield f"{where}; transports belong to gateway.graphql, gateway.oauth and gateway.app"


def test_every_import_keeps_the_law_of_the_layers() -> None:
    broken = [breach for module, path in modules() for breach in breaches(module, path)]

    assert not broken, "\n".join(broken)


def test_only_one_room_knows_both_backends() -> None:
    knowing = {
        module
        for module, path in modules()
        if {"db.memory", "db.postgres"}
        <= {".".join(name.split(".")[:2]) for _, name in imports(path)}
    }

    assert knowing == KNOWS_BOTH_BACKENDS


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("db.agents", "from gateway.services import agents"),
        ("db.memory.agents", "from db.postgres import engine"),
        ("db.postgres.agents", "import db.memory.agents"),
        ("gateway.services.agents", "import litestar"),
        ("gateway.services.agents", "from gateway.graphql import schema"),
        ("gateway.auth.tokens", "from gateway.services.call import Call"),
        ("gateway.oauth.endpoints", "from gateway.graphql.schema import sdl"),
        ("gateway.app", "from workers.queue import Queue"),
        ("workers.main", "from gateway.wiring import assemble"),
        ("alembic.env", "from db.tables import agents"),
    ],
)
def test_a_breach_of_the_law_is_seen(module: str, source: str, tmp_path: Path) -> None:
    room = tmp_path / "room.py"
    room.write_text(source)

    assert list(breaches(module, room))


def test_alembic_is_no_package_so_that_it_never_shadows_the_library() -> None:
    assert not list((ROOT / "alembic").rglob("__init__.py"))


def test_every_package_has_a_sign_on_its_door() -> None:
    signs = {
        path.relative_to(ROOT): ast.get_docstring(ast.parse(path.read_text()))
        for top in ("db", "gateway", "workers", "tests")
        for path in (ROOT / top).rglob("__init__.py")
    }

    assert not [str(path) for path, sign in signs.items() if not sign]


def test_no_room_is_larger_than_a_room() -> None:
    sizes = {module: len(path.read_text().splitlines()) for module, path in modules()}

    assert not {module: size for module, size in sizes.items() if size > 350}


def test_no_room_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}

    assert not [module for module, _ in modules() if empty & set(module.split("."))]


def test_a_tenant_prefix_is_made_from_a_registry_row_alone() -> None:
    makers = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for _, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, (ast.Name, ast.Attribute))
        and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) == "TenantPrefix"
    }

    assert {maker.split(":")[0] for maker in makers} <= {
        "db/records.py",
        "db/migrations.py",
        # One that no tenant can have: the place in a text where a registered one is put.
        "db/postgres/template.py",
    }
