"""What becomes of servers whose runner is killed, and of those that do not heed a signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.places import temporary_place
from tests.servers.process import ServerFailed, end, launch, wait_until

_RUNNER = """
import sys
from pathlib import Path
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey

with temporary_place(Path(sys.argv[1])) as place:
    server = Valkey(place)
    server.start()
    print(place, flush=True)
    sys.stdin.read()
"""
_DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", end="", flush=True)
signal.pause()
"""
_PATIENCE = 30  # seconds


def start(*command: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return launch(command, output=output, environment={"PATH": os.defpath})


# Only Linux tells a process that the one that started it is gone.
if sys.platform == "linux":

    @pytest.fixture
    def root() -> Iterator[Path]:
        """Apart from other runners, who sweep too, and at a shorter path than tmp_path's."""
        with temporary_place() as place:
            yield place / "root"

    def test_a_server_ends_with_its_runner_and_the_next_runner_sweeps_up(root: Path) -> None:
        root.mkdir()
        runner = subprocess.Popen(
            [sys.executable, "-c", _RUNNER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with runner, socket.socket(socket.AF_UNIX) as witness:
            assert runner.stdout is not None
            place = Path(runner.stdout.readline().decode().strip())
            witness.settimeout(_PATIENCE)
            witness.connect(str(place / "valkey.sock"))
            runner.kill()
            runner.wait()
            assert witness.recv(1) == b""

        assert list(root.iterdir()) == [place]
        with temporary_place(root) as next_place:
            assert list(root.iterdir()) == [next_place]


def test_a_place_in_use_is_not_swept() -> None:
    with temporary_place() as first, temporary_place() as second:
        assert first.exists()
        assert second.exists()
    assert not first.exists()


def test_a_process_that_does_not_heed_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = start(sys.executable, "-c", _DEAF, log=log)
    wait_until(lambda: log.read_bytes() == b"ready", deaf, log, "the deaf one")
    assert end(deaf, signal.SIGTERM, patience=0.01) == -signal.SIGKILL


def test_a_process_that_ends_too_early_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start("/bin/sh", "-c", "echo out of luck; exit 7", log=log)
    with pytest.raises(ServerFailed, match=r"(?s)status 7.*out of luck"):
        wait_until(lambda: False, process, log, "the unlucky one")


def test_a_process_that_never_answers_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(sys.executable, "-c", _DEAF, log=log)
    with pytest.raises(ServerFailed, match="did not answer within"):
        wait_until(lambda: False, process, log, "the silent one", seconds=0.05)
    assert process.returncode == -signal.SIGKILL


def test_a_server_is_not_started_from_a_thread_that_may_end(tmp_path: Path) -> None:
    refusals: list[str] = []

    def elsewhere() -> None:
        try:
            start("/bin/true", log=tmp_path / "log")
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert refusals == ["servers are started from the main thread"]
