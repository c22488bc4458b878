"""`make stack`: the production shape on one machine, in one terminal.

PostgreSQL with an owner and an application role, Valkey, migrations, the gateway, one worker, and
on the first start a tenant. What is in the environment is honoured, a DATABASE_URL or REDIS_URL
too; what is unset is made up once and kept beside the data, so that tokens outlive a restart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from db.errors import AgentIdPError
from db.settings import MEMORY
from gateway.demo import banner
from gateway.server import listen
from gateway.settings import GatewaySettings
from tests.servers.binaries import MissingServer
from tests.servers.children import Children
from tests.servers.demo_tenant import SLUG, DemoTenant, GatewayRefused
from tests.servers.grounds import GroundTaken, alone_in, free_port, postgres_home
from tests.servers.keepsakes import Keepsakes, UnreadableKeepsakes
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.servers.process import ServerFailed, tail
from tests.servers.roles import APP, OWNER, make_database, role_url
from tests.servers.valkey import Valkey

_ROOT = Path(__file__).parents[2]
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Ctrl-C, or a signal that means the same."""


class StackFailed(RuntimeError):
    """Something has ended that should run, or cannot run at all."""


_EXPECTED = (
    *(AgentIdPError, GatewayRefused, GroundTaken, MissingServer, OSError),
    *(ServerFailed, StackFailed, UnreadableKeepsakes),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.stack", description=__doc__)
    parser.add_argument("--data", type=Path, default=_ROOT / ".data", help="where data is kept")
    data: Path = parser.parse_args().data.absolute()
    for each in _SIGNALS:
        signal.signal(each, _stop)
    stack = Stack(data)
    try:
        stack.start()
        stack.run()
    except Stop:
        stack.say("stopping")
        return 0
    except _EXPECTED as error:
        stack.say(str(error))
        return 1
    finally:
        # What stops the others must not be stopped itself.
        _ignore_signals()
        stack.stop()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise Stop


def _ignore_signals() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


class Stack:
    def __init__(self, data: Path) -> None:
        self._data = data
        self._children = Children(_ROOT)
        self._running = contextlib.ExitStack()
        self._logs: dict[str, Path] = {}

    def say(self, line: str) -> None:
        self._children.say("stack", line)

    def start(self) -> None:
        _refuse_half_a_stack()
        self._running.enter_context(alone_in(self._data))
        keepsakes = Keepsakes(self._data / "secrets.json")
        _fill_in("OPERATOR_TOKEN", keepsakes)
        if "SIGNING_KEYS" not in os.environ:
            _fill_in("KEY_ENCRYPTION_SECRET", keepsakes)
        if os.environ.get("PORT") == "0":
            # Whoever onboards the tenant has to know the port.
            os.environ["PORT"] = str(free_port())
        own = self._start_postgres(keepsakes)
        self._start_valkey()
        settings = GatewaySettings.load()
        if settings.in_memory or settings.redis_url == MEMORY:
            raise StackFailed(
                "`make run` keeps everything in memory; unset DATABASE_URL, REDIS_URL"
            )
        # Who listens there already would be asked to onboard the tenant, with our token.
        listen(settings.host, settings.port).close()
        self._running.callback(self._children.stop)
        if status := self._children.run("migrate", "db", "migrate"):
            raise StackFailed(f"migrate ended with status {status}")
        self._children.start("gateway", "gateway")
        self._children.start("worker", "workers")
        client = self._onboard(settings, keepsakes, "demo" if own else "demo of DATABASE_URL")
        operator = os.environ["OPERATOR_TOKEN"]
        self._children.say("", banner(settings.issuer_base, operator, *client))

    def run(self) -> NoReturn:
        """Until something ends that should not."""
        while True:
            self._still_running(None)

    def stop(self) -> None:
        """The gateway and the worker first, then what they stand on."""
        self._running.close()

    def _still_running(self, seconds: float | None) -> None:
        """Waits; raises StackFailed when anything ends."""
        ended = self._children.first_to_end(seconds)
        if ended is None:
            return
        name, status = ended
        words = f":\n{tail(self._logs[name])}" if name in self._logs else ""
        raise StackFailed(f"{name} ended with status {status}, so everything stops{words}")

    def _start_postgres(self, keepsakes: Keepsakes) -> bool:
        """Whether it is ours."""
        if "DATABASE_URL" in os.environ:
            self.say("PostgreSQL is the one of DATABASE_URL")
            return False
        home = postgres_home(self._data)
        server = Postgres(
            home, port=free_port(), password=keepsakes.secret("postgres_password"), durable=True
        )
        server.start()
        self._running.callback(server.stop)
        self._watch("postgres", server)
        owner, app = keepsakes.secret("owner_password"), keepsakes.secret("app_password")
        make_database(server.url(), owner, app)
        os.environ["DATABASE_OWNER_URL"] = role_url(server.url(), OWNER, owner)
        os.environ["DATABASE_URL"] = role_url(server.url(), APP, app)
        self.say(f"PostgreSQL on 127.0.0.1 port {server.port}, its data in {home}")
        return True

    def _start_valkey(self) -> None:
        if "REDIS_URL" in os.environ:
            self.say("Redis is the one of REDIS_URL")
            return
        server = Valkey(self._running.enter_context(temporary_place()))
        server.start()
        self._running.callback(server.stop)
        self._watch("valkey", server)
        os.environ["REDIS_URL"] = server.url()
        self.say("Valkey on a unix socket; it keeps nothing")

    def _watch(self, name: str, server: Postgres | Valkey) -> None:
        self._logs[name] = server.log
        self._children.watch(name, server.process)

    def _onboard(
        self, settings: GatewaySettings, keepsakes: Keepsakes, name: str
    ) -> tuple[str, str]:
        """The demo tenant's client id and secret, or the shell variables that stand for them."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
        demo = DemoTenant(
            f"http://{host}:{settings.port}", os.environ["OPERATOR_TOKEN"], self._still_running
        )
        with contextlib.closing(demo):
            demo.wait_for_gateway()
            if not demo.exists():
                client_id, client_secret = demo.onboard()
                keepsakes.keep(**{f"{name} id": client_id, f"{name} secret": client_secret})
            demo.wait_until_active()
        client = (keepsakes.get(f"{name} id"), keepsakes.get(f"{name} secret"))
        if client[0] and client[1]:
            return client[0], client[1]
        self.say(f"tenant {SLUG} was onboarded elsewhere: its client's secret is not known here")
        return "$CLIENT_ID", "$CLIENT_SECRET"


def _refuse_half_a_stack() -> None:
    given = os.environ
    if MEMORY in (given.get("DATABASE_URL"), given.get("REDIS_URL")):
        raise StackFailed("`make run` keeps everything in memory; unset DATABASE_URL, REDIS_URL")
    if "DATABASE_OWNER_URL" in given and "DATABASE_URL" not in given:
        raise StackFailed("DATABASE_OWNER_URL is set and DATABASE_URL is not: set both or none")


def _fill_in(name: str, keepsakes: Keepsakes) -> None:
    if name not in os.environ:
        os.environ[name] = keepsakes.secret(name)


if __name__ == "__main__":
    sys.exit(main())
