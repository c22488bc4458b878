"""Where `make stack` keeps its data, and that it is alone there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import unprivileged

_ELSEWHERE = Path("/var/lib/agentidp")
_CLUSTER = "postgres"


class GroundTaken(RuntimeError):
    """Another stack runs on the same data."""


@contextmanager
def alone_in(data: Path) -> Iterator[None]:
    """Makes the folder if need be. Raises GroundTaken, and OSError when it is not ours."""
    data.mkdir(parents=True, exist_ok=True)
    # As root, PostgreSQL's user passes through to its own folder and sees nothing else.
    data.chmod(0o711 if unprivileged() else 0o700)
    with open(data / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GroundTaken(f"another `make stack` runs on {data}") from None
        yield


def postgres_home(data: Path) -> Path:
    """A folder in `data` or, when the user that PostgreSQL runs as cannot enter that, one under
    /var/lib that belongs to this `data` alone."""
    account = unprivileged()
    inside = data / _CLUSTER
    outside = _ELSEWHERE / hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    enterable = account is None or account.can_enter(data)
    # Data does not move when the folders above it are opened or closed later.
    home = inside if enterable and not outside.exists() else outside
    if inside.exists() and home == outside:
        raise GroundTaken(f"{account and account.name} cannot enter {inside}, which holds the data")
    if home == outside:
        _ELSEWHERE.mkdir(exist_ok=True)
        _ELSEWHERE.chmod(0o711)
    return home


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
