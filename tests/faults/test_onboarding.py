"""A hundred tenants come to be, each exactly once, while everything that makes them is killed."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.clock import system_clock
from db.filters import TenantFilter, WorkFilter
from db.records import AuditAction, TenantStatus
from db.work import WorkState
from gateway.auth.clients import ClientSecret
from gateway.auth.principal import Operator
from gateway.auth.secrets import SecretHasher
from gateway.services.call import Call
from gateway.wiring import Gateway, started
from tests.contract.paging import EVERYTHING, items
from tests.db.catalog import everything, rows
from tests.faults.chaos import Chaos
from tests.gateway import CHEAPEST_BCRYPT, Client, postgres_settings
from tests.servers.databases import Database
from tests.servers.valkey import Valkey

TENANTS = 100
SECONDS = 240  # never reached: whoever waits longer waits for something that does not come
LEAST = {"kill": 5, "flush": 3, "restart": 2}

_ACTIVE = TenantFilter(status=(TenantStatus.ACTIVE,))


@pytest.fixture
def chaos(valkey: Valkey, empty_database: Database, tmp_path: Path) -> Iterator[Chaos]:
    environment = {
        "DATABASE_URL": empty_database.app_url,
        "DATABASE_OWNER_URL": empty_database.owner_url,
        "REDIS_URL": valkey.url(),
        "DB_POOL_SIZE": "4",
    }
    made = Chaos(tmp_path, valkey, environment, size=2, seed=20)
    yield made
    made.end()


async def test_every_onboarding_ends_in_exactly_one_tenant_whatever_is_killed(
    chaos: Chaos, valkey: Valkey, empty_database: Database
) -> None:
    settings = postgres_settings(empty_database, valkey.url())
    async with started(settings, hasher=SecretHasher(CHEAPEST_BCRYPT)) as gateway:
        chaos.begin()
        onboarding = asyncio.create_task(_onboard(gateway))
        async with asyncio.timeout(SECONDS):
            while not (onboarding.done() and _enough(chaos.done)):
                await chaos.strike()
            clients = await onboarding
            await _until_all_are_active(gateway)

        for client in clients:
            await _is_whole(gateway, client)
        for client in clients[::20]:
            # The secret of the answer that was given before there was a table.
            tenant = await gateway.tenants.get(client.slug)
            proof = ClientSecret(client.client_id, client.secret)
            await gateway.clients.authenticate(_call(), tenant, proof)
    await _nothing_is_double_or_left(empty_database, clients)
    await _tables_are_exact(empty_database, clients)
    _no_secret_was_told(chaos.log(), clients)


def _call() -> Call:
    return Call.make(Operator(), system_clock(), "192.0.2.1", "the suite", "test")


async def _onboard(gateway: Gateway) -> list[Client]:
    clients = []
    for number in range(TENANTS):
        made = await gateway.onboarding.onboard(
            _call(), f"t{number:03d}", f"Tenant {number}", f"admin@t{number:03d}.example"
        )
        assert made.secret is not None
        clients.append(Client(made.tenant.slug, str(made.client_id), made.secret))
        await asyncio.sleep(0.05)
    return clients


def _enough(done: Counter[str]) -> bool:
    return all(done[what] >= count for what, count in LEAST.items())


async def _until_all_are_active(gateway: Gateway) -> None:
    registry = gateway.storage.registry
    while await registry.tenants.count(_ACTIVE) < TENANTS:
        given_up = await registry.work.page(EVERYTHING, WorkFilter(state=(WorkState.FAILED,)))
        assert not given_up.items
        await asyncio.sleep(0.2)


async def _is_whole(gateway: Gateway, client: Client) -> None:
    tenant = await gateway.storage.registry.tenants.get(client.slug)
    assert tenant is not None
    assert str(tenant.administrator_id) == client.client_id
    reader = gateway.storage.read(client.prefix)
    agents = await items(reader.agents.page)
    assert [str(each.agent_id) for each in agents] == [client.client_id]
    assert len(await items(reader.credentials.page)) == 1
    trail = await items(lambda request: reader.audit.page(request, tenant.created_at))
    assert [event.action for event in reversed(trail)] == [
        AuditAction.AGENT_CREATED,
        AuditAction.CREDENTIAL_GENERATED,
    ]


async def _nothing_is_double_or_left(database: Database, clients: list[Client]) -> None:
    told = await rows(
        database.owner_url,
        "SELECT action, tenant, count(*) FROM operator_events GROUP BY action, tenant",
    )
    assert {(str(action), str(tenant)): count for action, tenant, count in told} == {
        (action, client.slug): 1
        for action in ("tenant.onboarded", "tenant.provisioned")
        for client in clients
    }
    left = await rows(
        database.owner_url,
        "SELECT key FROM work WHERE payload IS NOT NULL"
        " OR job = 'provision_tenant' AND state <> 'done'",
    )
    assert left == []


async def _tables_are_exact(database: Database, clients: list[Client]) -> None:
    """Every tenant has what the first has, to the last grant, and nothing else is there."""
    found = await everything(database.owner_url)
    slugs = {client.slug for client in clients}
    of_tenants: dict[str, set[tuple[str, str]]] = {slug: set() for slug in slugs}
    for kind, lines in found.items():
        for line in lines:
            named = set(re.findall(r"\bt\d{3}(?=_)", line))
            if not named:
                continue
            assert len(named) == 1, line
            (slug,) = named
            of_tenants[slug].add((kind, line.replace(f"{slug}_", "T_")))
    first = of_tenants[clients[0].slug]
    assert first
    for slug in slugs:
        assert of_tenants[slug] == first, slug


def _no_secret_was_told(log: str, clients: list[Client]) -> None:
    assert "job done" in log
    for line in log.splitlines():
        json.loads(line)
    assert "$2b$" not in log
    assert not [client.slug for client in clients if client.secret in log]
