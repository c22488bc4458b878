"""One Valkey, on a unix socket alone.

It keeps nothing: what it holds is a cache, and a restart must find it empty. The run id changes
with every start, which is how readers notice.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.binaries import valkey_server
from tests.servers.process import end, launch, wait_until


class Valkey:
    """A server in the folder `home`, empty after every start."""

    def __init__(self, home: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.log = home / "valkey.log"
        self._socket = home / "valkey.sock"
        self._options = dict(options or {})
        self._program = valkey_server()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("Valkey is not running")
        return self._process

    def url(self, database: int = 0) -> str:
        return f"unix://{self._socket}?db={database}"

    def start(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            **self._options,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with self.log.open("ab") as log:
            process = launch(
                [self._program, *arguments],
                output=log,
                environment={"PATH": os.defpath, "TZ": "UTC"},
                folder=self.home,
            )
        self._process = process
        try:
            wait_until(self._answers, process, self.log, "Valkey")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            end(self._process, how)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
