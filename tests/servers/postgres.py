"""One PostgreSQL cluster.

For tests: a unix socket only, everybody behind it trusted, nothing flushed to disk, because the
machine's end is the data's end. With `password` and `port`: TCP on 127.0.0.1, where any local user
can knock, so everybody needs a password; and `durable` keeps what it promised.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from tests.servers.binaries import postgres_bindir
from tests.servers.process import (
    ServerFailed,
    end,
    launch,
    tail,
    unprivileged,
    wait_until,
)

SUPERUSER = "postgres"

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_BUILTIN_LOCALE_SINCE = 17
_STATUS_LINE = 7  # of postmaster.pid, counted from 0
_RECOVERY = 30  # seconds
# A killed postmaster's children see it a moment later, and no other may start before they are gone.
_STILL_THERE = re.compile("pre-existing shared memory block|lock file .* already exists")


class Postgres:
    """A server in the folder `home`; the same data however often it starts."""

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        password: str | None = None,
        durable: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if (port is None) != (password is None):
            raise ValueError("TCP needs a port and a password, a unix socket neither")
        self.home = home
        self.log = home / "postgres.log"
        self._data = home / "data"
        self._socket = home / "socket"
        self.port = port
        self._password = password
        self._durable = durable
        self._options = dict(options or {})
        self._account = unprivileged()
        self._bindir = postgres_bindir(self._account)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running")
        return self._process

    def url(
        self, role: str = SUPERUSER, password: str | None = None, database: str = "postgres"
    ) -> str:
        secret = password or (self._password if role == SUPERUSER else None)
        user = quote(role) + (f":{quote(secret, safe='')}" if secret else "")
        if self.port is None:
            return f"postgresql://{user}@/{database}?host={quote(str(self._socket))}&port=5432"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns once connections are accepted, crash recovery included."""
        self.home.mkdir(exist_ok=True)
        if self._account:
            # Passed through, not listed; whatever the umask was.
            self.home.chmod(0o711)
        self._hand_over(self._socket)
        if not self._data.exists():
            self._initialise()
        deadline = time.monotonic() + _RECOVERY
        while True:
            written = self.log.stat().st_size if self.log.exists() else 0
            try:
                self._launch()
            except ServerFailed:
                with self.log.open(errors="replace") as log:
                    log.seek(written)
                    if time.monotonic() > deadline or not _STILL_THERE.search(log.read()):
                        raise
                continue
            return

    def stop(self) -> None:
        """An orderly end: connections are cut, everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """A crash: nothing is written any more. `start` recovers."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            end(self._process, how)
            self._process = None

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "" if self.port is None else "127.0.0.1",
            "port": str(self.port or 5432),
            "unix_socket_directories": str(self._socket) if self.port is None else "",
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            **({} if self._durable else _FORGETFUL),
            **self._options,
        }
        arguments = [part for item in settings.items() for part in ("-c", "=".join(item))]
        with self.log.open("ab") as log:
            process = launch(
                [self._bindir / "postgres", "-D", self._data, *arguments],
                output=log,
                environment=_ENVIRONMENT,
                account=self._account,
                when_orphaned=signal.SIGINT,
            )
        self._process = process
        try:
            wait_until(lambda: self._accepts(process.pid), process, self.log, "PostgreSQL")
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def _accepts(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and [each.strip() for each in lines[_STATUS_LINE:]] == [
            "ready"
        ]

    def _initialise(self) -> None:
        # Made beside and renamed: an interrupted initdb must not be taken for a cluster.
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._hand_over(unfinished)
        command: list[str | Path] = [
            self._bindir / "initdb",
            *("-D", unfinished, "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--wal-segsize=1"),
            "--no-instructions",
        ]
        if self._major_version() >= _BUILTIN_LOCALE_SINCE:
            # Without it lower('Ä') is 'Ä'; the wheels are built without ICU.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            command += ["--no-sync"]
        secret = self.home / "password"
        try:
            if self._password is None:
                command += ["-A", "trust"]
            else:
                secret.unlink(missing_ok=True)
                secret.touch(mode=0o600)
                secret.write_text(self._password)
                self._give(secret)
                command += ["-A", "scram-sha-256", f"--pwfile={secret}"]
            self._run_initdb(command)
        finally:
            secret.unlink(missing_ok=True)
        unfinished.rename(self._data)

    def _run_initdb(self, command: list[str | Path]) -> None:
        with self.log.open("ab") as log:
            process = launch(command, output=log, environment=_ENVIRONMENT, account=self._account)
        try:
            status = process.wait()
        finally:
            end(process, signal.SIGTERM)
        if status != 0:
            raise ServerFailed(f"initdb ended with status {status}:\n{tail(self.log)}")

    def _major_version(self) -> int:
        told = subprocess.run(
            [self._bindir / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        found = re.search(r"\) (\d+)", told)
        if found is None:
            raise ServerFailed(f"this is no PostgreSQL: {told.strip()}")
        return int(found[1])

    def _hand_over(self, folder: Path) -> None:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self._give(folder)

    def _give(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)


_FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # In the cluster's own folder: elsewhere a killed server would leave it behind.
    "dynamic_shared_memory_type": "mmap",
}
