"""`python -m bench.lag`: how late the event loop is while five hundred clients log in at once.

One right secret, which is hashed once; the same again, when it is known; five hundred wrong ones of
one client, of which its budget lets a few be hashed; and five hundred clients each with its own
right one, of which as many are hashed as may wait their turn. bcrypt 12, PostgreSQL with fsync on,
Valkey; the server as it is served, with a task beside it that wants to run every two milliseconds.
A turn that it gets late stands for all that it would have wanted meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import uvloop

from bench.crowd import Crowd, gathered
from bench.grounds import Bar, Grounds, grounds, judge, table
from db import log
from db.clock import system_clock
from db.migrations import migrate
from gateway.auth.secrets import SecretHasher, new_secret
from gateway.server import serve
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway, started
from tests.contract.cast import ACME, new_agent, new_credential, new_tenant
from tests.servers.grounds import free_port

_CROWD = 500
_COST = 12
_INTERVAL = 0.002
_LIMIT = 50.0
Line: TypeAlias = tuple[str, float, float, float, float, float, str]

_FORM = b"grant_type=client_credentials"


class Sampler:
    """How late it was, in ms, since that was last `taken`."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            late = max(0.0, time.perf_counter() - due)
            self._late.append(late * 1000)
            while (late := late - _INTERVAL) > 0:
                self._late.append(late * 1000)

    def taken(self) -> Sequence[float]:
        late, self._late = sorted(self._late), []
        return late


def requests(clients: Sequence[tuple[UUID, str]]) -> list[bytes]:
    made = []
    for client_id, secret in clients:
        basic = base64.b64encode(f"{client_id}:{secret}".encode())
        made.append(
            b"POST /t/acme/oauth2/token HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            b"authorization: Basic %b\r\ncontent-type: application/x-www-form-urlencoded\r\n"
            b"content-length: %d\r\n\r\n%b" % (basic, len(_FORM), _FORM)
        )
    return made


async def measure(port: int, clients: Sequence[tuple[UUID, str]]) -> list[Line]:
    """A line for each crowd. The last of `clients` stands for the one that all of them are."""
    one, secret = clients[-1]
    crowds = {
        "one right secret": [(one, secret)] * _CROWD,
        "the same, known": [(one, secret)] * _CROWD,
        "wrong ones": [(one, new_secret()) for _ in range(_CROWD)],
        "500 clients": clients[:_CROWD],
    }
    sampler = Sampler()
    sampling = asyncio.create_task(sampler.run())
    lines: list[Line] = []
    for name, crowd in crowds.items():
        sampler.taken()
        told = await gathered(Crowd(port, requests(crowd)))
        late = sampler.taken()
        p50, p99 = (late[len(late) * part // 1000] for part in (500, 990))
        statuses = ", ".join(f"{count} × {status}" for status, count in told.statuses.items())
        lines.append((name, p50, p99, late[-1], told.seconds * 1000, told.p50, statuses))
    sampling.cancel()
    return lines


async def furnish(gateway: Gateway) -> list[tuple[UUID, str]]:
    """Active clients of `acme`. They have one secret, which each keeps in a row of its own."""
    storage = gateway.storage
    async with storage.registry_unit() as registry:
        await registry.tenants.add(new_tenant(ACME.value))
    await storage.upkeep.provision(ACME, system_clock())
    secret = new_secret()
    hashed = await SecretHasher(_COST).hash(secret)
    clients = []
    async with storage.unit(ACME) as unit:
        for _ in range(_CROWD + 1):
            agent = new_agent(email=f"{uuid4()}@bench.example")
            await unit.agents.add(agent)
            await unit.credentials.add(
                new_credential(agent.agent_id, secret_hash=hashed.hash, secret_tag=hashed.tag)
            )
            clients.append((agent.agent_id, secret))
    return clients


@asynccontextmanager
async def serving(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    async with started(settings) as gateway:
        ready = asyncio.Event()
        server = asyncio.create_task(serve(gateway, ready.set))
        await ready.wait()
        try:
            yield gateway
        finally:
            signal.raise_signal(signal.SIGTERM)
            await server


async def run(ground: Grounds) -> list[Line]:
    await migrate(ground.settings, now=system_clock())
    port = free_port()
    with silent_log():
        settings = GatewaySettings.load(
            database_url=ground.database.app_url,
            database_owner_url=ground.database.owner_url,
            redis_url=ground.redis_url,
            key_encryption_secret="what-opens-the-signing-keys-of-this-bench",
            bcrypt_cost=_COST,
            port=port,
        )
        async with serving(settings) as gateway:
            return await measure(port, await furnish(gateway))


@contextmanager
def silent_log() -> Iterator[None]:
    """The log is written, and is not to be read among the figures."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    log.configure()
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def main() -> int:
    with grounds(valkey=True) as ground:
        lines = uvloop.run(run(ground))
    headings = ("500 logins", "lag p50", "p99", "max", "all within", "answer p50", "answers")
    table(headings, lines)
    return judge(
        *(Bar(f"event loop lag, {line[0]}, p99", line[2], _LIMIT, " ms") for line in lines)
    )


if __name__ == "__main__":
    sys.exit(main())
