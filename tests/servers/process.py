"""Starting a server, waiting until it answers, and ending it for certain."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")
_POLL = 0.005  # seconds
_LOG_TAIL = 2000  # characters


class ServerFailed(RuntimeError):
    """A server did not start or did not answer; the message ends with its own last words."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a server runs as when that is not us."""

    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Asked of the kernel, because a folder is as closed as the most closed one above it."""
        return self.runs("/bin/sh", "-c", 'cd "$1"', "sh", str(folder))

    def runs(self, *command: str) -> bool:
        try:
            finished = subprocess.run(
                command,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                env={"PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except OSError:
            return False
        return finished.returncode == 0


def unprivileged() -> Account | None:
    """Who stands in for root, under whom PostgreSQL refuses to run; None when we are not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def launch(
    command: Sequence[str | Path],
    *,
    output: int | IO[bytes],
    environment: Mapping[str, str],
    folder: Path = Path("/"),
    account: Account | None = None,
    when_orphaned: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, so that Ctrl-C reaches us alone and we end things
    in order."""
    if threading.current_thread() is not threading.main_thread():
        # The kernel watches the thread that forked: with any other, servers would end with it.
        raise RuntimeError("servers are started from the main thread")
    leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(when_orphaned))]
    identity = f"{account.uid}:{account.gid}" if account else "-"
    return subprocess.Popen(
        [*leash, identity, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def wait_until(
    answers: Callable[[], bool],
    process: subprocess.Popen[bytes],
    log: Path,
    name: str,
    seconds: float = 30,
) -> None:
    """Raises ServerFailed when the process ends or `seconds` pass first."""
    deadline = time.monotonic() + seconds
    while not answers():
        if process.poll() is not None:
            raise ServerFailed(f"{name} ended with status {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            end(process, signal.SIGKILL)
            raise ServerFailed(f"{name} did not answer within {seconds:g} s:\n{tail(log)}")
        time.sleep(_POLL)


def end(process: subprocess.Popen[bytes], kindly: signal.Signals, patience: float = 20) -> int:
    """Its exit status, after `kindly` or, when that is not heeded in time, SIGKILL."""
    if process.poll() is None:
        process.send_signal(kindly)
    return wait_or_kill(process, patience)


def wait_or_kill(process: subprocess.Popen[bytes], patience: float) -> int:
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_TAIL:].strip() if log.exists() else ""
