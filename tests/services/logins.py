"""Logins as a service is asked for them: from any address, with a hasher that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from db.errors import InvalidClient, Throttled, Unavailable
from gateway.auth.clients import ClientSecret, KnownClient
from gateway.auth.principal import Anonymous
from gateway.auth.secrets import HashedSecret, SecretHasher
from tests.gateway import CHEAPEST_BCRYPT, Client, RunningGateway

T = TypeVar("T")

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Counting(SecretHasher):
    """Knows how many hashes it has made or compared, none of which was refused before."""

    def __init__(self, cost: int = CHEAPEST_BCRYPT, **how: int) -> None:
        super().__init__(cost, **how)
        self.runs = 0
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No new hash is made within; comparisons are."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    async def hash(self, secret: str, whence: str = "") -> HashedSecret:
        await self._free.wait()
        return await super().hash(secret, whence)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        self.runs += 1
        return await super()._in_turn(work)


async def log_in(running: RunningGateway, client: Client, address: str = HERE) -> KnownClient:
    """Raises what the service raises."""
    gateway = running.gateway
    call = replace(running.call(Anonymous()), ip_address=address)
    tenant = await gateway.storage.registry.tenants.get(client.slug)
    proof = ClientSecret(client.client_id, client.secret)
    _, known = await gateway.clients.authenticate(call, tenant, proof)
    return known


async def outcome(running: RunningGateway, client: Client, address: str = HERE) -> str:
    """In a word."""
    try:
        await log_in(running, client, address)
    except (InvalidClient, Throttled, Unavailable) as error:
        return error.code
    return "OK"
