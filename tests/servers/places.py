"""Room for a server that lives as long as its runner.

In memory where there is enough of it, because a database is made and dropped for every test; at a
short path, because a unix socket's name has about a hundred bytes; and swept later by the next
runner if its own was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.process import unprivileged

_MEMORY = Path("/dev/shm")
_ROOM_NEEDED = 1 << 30  # bytes
_LONGEST = 60  # bytes of a folder's path that leave room for a socket's name
_PREFIX = "agentidp-servers-"
_LOCK = "lock"


@contextmanager
def temporary_place(root: Path | None = None) -> Iterator[Path]:
    """A new folder that others may pass through but not list, removed at the end."""
    root = root or _root()
    _sweep(root)
    # It takes its real name only once it is locked: a sweeper never sees it unlocked.
    made = Path(tempfile.mkdtemp(prefix=".agentidp-", dir=root))
    place = made.with_name(_PREFIX + made.name.removeprefix(".agentidp-"))
    with open(made / _LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.chmod(0o711)
        made.rename(place)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _root() -> Path:
    account = unprivileged()
    for folder in (_MEMORY, Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        if (
            os.access(folder, os.W_OK | os.X_OK)
            and len(os.fsencode(folder)) <= _LONGEST
            and (folder != _MEMORY or shutil.disk_usage(folder).free >= _ROOM_NEEDED)
            and (account is None or account.can_enter(folder))
        ):
            return folder
    raise RuntimeError("there is no folder for temporary servers: /tmp cannot be written")


def _sweep(root: Path) -> None:
    for left in root.glob(_PREFIX + "*"):
        with suppress(OSError):
            if left.lstat().st_uid != os.geteuid():
                continue
            with open(left / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
