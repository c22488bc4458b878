"""`make stack`: what it makes up is kept, and what it starts ends with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers.grounds import GroundTaken, alone_in, postgres_home
from tests.servers.keepsakes import Keepsakes, UnreadableKeepsakes
from tests.servers.places import temporary_place

_ROOT = Path(__file__).parents[2]
_BANNER_ENDS = "Ctrl-C stops it"


@pytest.fixture
def data() -> Iterator[Path]:
    # Not tmp_path, which nobody else can enter: that would send the cluster to /var/lib.
    with temporary_place() as place:
        yield place / "data"


class Running:
    """A stack, from its banner on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.said = ""
        for line in process.stdout:
            self.said += line
            if _BANNER_ENDS in line:
                return
        raise AssertionError(f"it ended without a banner:\n{self.said}")

    def told(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        assert found, self.said
        return found[1]

    def secrets(self) -> tuple[str, str, str]:
        return (
            self.told(r"operator token +(\S+)"),
            self.told(r"demo client +(\S+)"),
            self.told(r"demo secret +(\S+)"),
        )

    def ask_for_token(self) -> int:
        _, client_id, client_secret = self.secrets()
        url = self.told(r"GraphiQL +(\S+)/graphql")
        answer = httpx.post(
            f"{url}/t/demo/oauth2/token",
            auth=(client_id, client_secret),
            data={"grant_type": "client_credentials"},
            trust_env=False,
        )
        return answer.status_code

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.listen_to_the_end()

    def listen_to_the_end(self) -> int:
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        return self.process.wait()

    def is_reachable(self) -> bool:
        ports = (self.told(r"PostgreSQL on 127.0.0.1 port (\d+)"), self.told(r"GraphiQL.*:(\d+)/"))
        for port in ports:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", int(port))) == 0:
                    return True
        return False


@contextmanager
def stack(data: Path, **environment: str) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.stack", "--data", str(data)],
        cwd=_ROOT,
        env={**os.environ, "PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            process.terminate()


def test_a_stack_that_is_stopped_and_started_is_the_same_one(data: Path) -> None:
    with stack(data) as first:
        assert first.ask_for_token() == httpx.codes.OK
        assert first.end(signal.SIGINT) == 0
        assert not first.is_reachable()

    with stack(data) as second:
        assert second.secrets() == first.secrets()
        assert second.ask_for_token() == httpx.codes.OK
        assert second.end(signal.SIGTERM) == 0
        assert not second.is_reachable()
    for path in data.iterdir():
        assert path.is_dir() or path.name == "lock" or path.stat().st_mode & 0o077 == 0


def test_when_one_part_ends_all_end_and_it_is_named(data: Path) -> None:
    with stack(data, OPERATOR_TOKEN="given-by-whoever-started-all-of-this") as running:
        assert running.secrets()[0] == "given-by-whoever-started-all-of-this"
        postmaster = (data / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGINT)
        assert running.listen_to_the_end() == 1
        assert "postgres ended with status 0, so everything stops" in running.said
        assert not running.is_reachable()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"DATABASE_URL": "memory://"}, "`make run` keeps everything in memory"),
        ({"DATABASE_OWNER_URL": "postgresql://owner@db/x"}, "set both or none"),
        ({"OPERATOR_TOKEN": "short"}, "OPERATOR_TOKEN: expected at least 32 characters"),
        ({"VALKEY_SERVER": "/nonexistent"}, "VALKEY_SERVER=/nonexistent is not a program"),
    ],
)
def test_what_cannot_be_a_stack_is_refused_in_a_sentence(
    data: Path, environment: dict[str, str], reason: str
) -> None:
    with (
        pytest.raises(AssertionError, match=re.escape(reason)) as refused,
        stack(data, **environment),
    ):
        pass
    assert "Traceback" not in str(refused.value)


def test_a_port_that_is_taken_is_named_and_its_holder_is_told_nothing(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        holder.setblocking(False)
        with (
            pytest.raises(AssertionError, match=re.escape("cannot listen on 127.0.0.1")) as refused,
            stack(data, PORT=str(holder.getsockname()[1])),
        ):
            pass
        with pytest.raises(BlockingIOError):
            holder.accept()
    assert "Traceback" not in str(refused.value)


def test_two_stacks_do_not_share_their_data(data: Path) -> None:
    with alone_in(data), pytest.raises(GroundTaken, match="another `make stack`"), alone_in(data):
        pass
    with alone_in(data):
        assert postgres_home(data) == data / "postgres"


def test_a_secret_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = Keepsakes(path).secret("token")
    kept = Keepsakes(path)
    kept.keep(other="word")
    assert Keepsakes(path).secret("token") == made
    assert Keepsakes(path).get("other") == "word"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_secrets_that_is_not_understood_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('["not", "ours"]')
    with pytest.raises(UnreadableKeepsakes, match=r"secrets\.json"):
        Keepsakes(path)
    assert path.read_text() == '["not", "ours"]'
