"""What the process asks of the world outside: files, addresses, connections, other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OUTSIDE = ("open", "os.", "socket.", "subprocess.", "urllib.", "http.", "import")
_ears: list[list[str]] = []


def _hear(event: str, arguments: object) -> None:
    if _ears and event.startswith(_OUTSIDE):
        for heard in _ears:
            heard.append(f"{event} {arguments!r}")


# There is no way to take a hook off again; without an ear it does nothing.
sys.addaudithook(_hear)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """All of it that happens within the block."""
    heard: list[str] = []
    _ears.append(heard)
    try:
        yield heard
    finally:
        _ears.remove(heard)
