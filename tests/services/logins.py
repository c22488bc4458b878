"""Logins as a service is asked for them: from any address, with a hasher that counts."""

from __future__ import annotations

from dataclasses import replace

from db.errors import InvalidClient, Throttled, Unavailable
from gateway.auth.clients import ClientSecret, KnownClient
from gateway.auth.principal import Anonymous
from gateway.auth.secrets import SecretHasher
from tests.gateway import CHEAPEST_BCRYPT, Client, RunningGateway

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Counting(SecretHasher):
    """Knows how many hashes it has made or compared, none of which was refused before."""

    def __init__(self, cost: int = CHEAPEST_BCRYPT, **how: int) -> None:
        super().__init__(cost, **how)
        self.runs = 0

    async def _in_turn(self, work):  # type: ignore[no-untyped-def]  # as in the class above
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
