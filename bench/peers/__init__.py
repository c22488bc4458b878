"""Servers of others to be measured beside, installed from their own registry for each run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import ServerFailed, end, launch, wait_until

# With the runtime that it asks for, whatever this machine has.
OIDC_PROVIDER = ("oidc-provider@9.13.3", "ioredis@5.8.2", "node@24")
_HERE = Path(__file__).parent


def install(folder: Path, packages: Sequence[str]) -> None:
    """Raises ServerFailed without npm, or without the network."""
    npm = shutil.which("npm")
    if npm is None:
        raise ServerFailed("this benchmark needs npm for the server that it compares with")
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", *packages],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise ServerFailed(f"npm could not install {' '.join(packages)}:\n{done.stderr}")


@contextmanager
def oidc_provider(
    folder: Path, clients: Sequence[tuple[str, str]], *, jwt: bool, redis_socket: str | None = None
) -> Iterator[tuple[int, int]]:
    """The port and the pid of a server that is ready; `folder` has had it installed."""
    script = folder / "oidc_provider.mjs"
    shutil.copy(_HERE / script.name, script)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    output = folder / f"peer-{port}.log"
    with output.open("wb") as log:
        process = launch(
            [folder / "node_modules" / ".bin" / "node", script],
            output=log,
            environment={
                "PATH": os.environ["PATH"],
                "NODE_ENV": "production",
                "PORT": str(port),
                "CLIENTS": json.dumps(clients),
                "FORMAT": "jwt" if jwt else "opaque",
                **({"REDIS_SOCKET": redis_socket} if redis_socket else {}),
            },
            folder=folder,
        )
    try:
        wait_until(lambda: "ready" in output.read_text(), process, output, "oidc-provider")
        yield port, process.pid
    finally:
        end(process, signal.SIGTERM)
