"""A tenant's row is remembered for a moment, and served only where it is proven."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from db.backends import open_storage
from db.contract import Storage
from db.errors import Unauthenticated
from db.records import Tenant, TenantStatus
from db.settings import StorageSettings
from gateway.auth import tenants
from gateway.auth.principal import AgentPrincipal, Operator
from gateway.auth.tenants import MOMENT, Tenants
from tests.contract.cast import MICROSECOND, NOW, new_tenant
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    made = await open_storage(StorageSettings.load())
    async with made.registry_unit() as unit:
        for number, status in enumerate(TenantStatus):
            await unit.tenants.add(new_tenant(f"tenant{number}", status=status))
        await unit.tenants.add(new_tenant("acme", token_generation=5))
        await unit.tenants.add(new_tenant("killed", kill_switched_at=NOW))
    yield made
    await made.close()


class TestTenants:
    async def test_a_row_is_remembered_for_a_moment(self, storage: Storage) -> None:
        remembered = Tenants(storage)
        assert remembered.recall("acme", NOW) is None
        acme = await remembered.read("acme", NOW)
        assert acme is not None
        assert remembered.recall("acme", NOW) is acme
        assert remembered.recall("acme", NOW + MOMENT) is acme
        assert remembered.recall("acme", NOW + MOMENT + MICROSECOND) is None
        # A request that began before the row was read.
        assert remembered.recall("acme", NOW - timedelta(seconds=5)) is acme

    async def test_a_token_that_is_newer_than_the_row_makes_it_old(self, storage: Storage) -> None:
        remembered = Tenants(storage)
        acme = await remembered.read("acme", NOW)
        assert remembered.recall("acme", NOW, 5) is acme
        assert remembered.recall("acme", NOW, 6) is None

    async def test_only_an_active_one_is_served_and_only_one_that_may_act_is_remembered(
        self, storage: Storage
    ) -> None:
        remembered = Tenants(storage)
        for number, status in enumerate(TenantStatus):
            slug, active = f"tenant{number}", status is TenantStatus.ACTIVE
            assert (await remembered.read(slug, NOW) is not None) == active
            assert (remembered.recall(slug, NOW) is not None) == active
        killed = await remembered.read("killed", NOW)
        assert killed is not None
        assert killed.is_killed
        assert remembered.recall("killed", NOW) is None

    @pytest.mark.parametrize("slug", ["nobody", "", "No Slug", "pg_x", "a" * 25])
    async def test_what_is_no_tenant_is_none_and_takes_no_room(
        self, storage: Storage, slug: str
    ) -> None:
        remembered = Tenants(storage)
        assert await remembered.read(slug, NOW) is None
        assert remembered.recall(slug, NOW) is None

    async def test_one_that_is_found_suspended_is_forgotten(self, storage: Storage) -> None:
        remembered = Tenants(storage)
        acme = await remembered.read("acme", NOW)
        assert acme is not None
        async with storage.registry_unit() as unit:
            await unit.tenants.save(replace(acme, status=TenantStatus.SUSPENDED))
        assert await remembered.read("acme", NOW) is None
        assert remembered.recall("acme", NOW) is None

    async def test_there_is_room_for_so_many_and_the_oldest_makes_place(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tenants, "_MOST", 2)
        async with storage.registry_unit() as unit:
            for slug in ("globex", "initech"):
                await unit.tenants.add(new_tenant(slug))
        remembered = Tenants(storage)
        for slug in ("acme", "globex", "acme", "initech"):
            await remembered.read(slug, NOW)
        known = [slug for slug in ("acme", "globex", "initech") if remembered.recall(slug, NOW)]
        assert known == ["acme", "initech"]

    async def test_what_is_forgotten_is_not_recalled(self, storage: Storage) -> None:
        remembered = Tenants(storage)
        await remembered.read("acme", NOW)
        remembered.forget("acme")
        remembered.forget("nobody")
        assert remembered.recall("acme", NOW) is None


class TestServing:
    """Two gateways on one database and one warm cache; the clocks stand still, so what `second`
    remembers is always young enough."""

    @pytest.fixture
    async def first(
        self, empty_database: Database, redis_url: str, redis: Redis
    ) -> AsyncIterator[RunningGateway]:
        async with running(postgres_settings(empty_database, redis_url)) as started:
            yield started

    @pytest.fixture
    async def admin(self, first: RunningGateway) -> Client:
        return await first.onboard()

    @pytest.fixture
    async def second(
        self, first: RunningGateway, admin: Client, empty_database: Database, redis_url: str
    ) -> AsyncIterator[RunningGateway]:
        """It knows `admin`'s tenant."""
        settings = postgres_settings(empty_database, redis_url)
        async with running(settings, clock=first.clock) as started:
            await first.warm_up()
            assert await tenant_of(started, await first.token(admin)) is not None
            yield started

    async def test_a_row_that_is_proven_is_served_though_its_name_has_changed(
        self, first: RunningGateway, second: RunningGateway, admin: Client
    ) -> None:
        """For a moment, and only elsewhere."""
        token = await first.token(admin)
        before = await tenant_of(second, token)
        assert before is not None
        operator = first.call(Operator())
        await first.gateway.tenants.update(operator, "acme", {"display_name": "another"})
        assert (await tenant_of(first, token)).display_name == "another"
        assert (await tenant_of(second, token)) == before
        first.clock.advance(MOMENT.total_seconds() + 0.001)
        assert (await tenant_of(second, token)).display_name == "another"

    async def test_a_suspension_is_known_at_once_though_the_row_is_remembered(
        self, first: RunningGateway, second: RunningGateway, admin: Client
    ) -> None:
        token = await first.token(admin)
        assert await second.gateway.authenticator.active_tenant("acme", second.clock.now)
        await first.gateway.tenants.suspend(first.call(Operator()), "acme")
        with pytest.raises(Unauthenticated):
            await tenant_of(second, token)
        assert await second.gateway.authenticator.active_tenant("acme", second.clock.now) is None

    async def test_after_a_reactivation_nothing_is_made_from_the_row_before(
        self, first: RunningGateway, second: RunningGateway, admin: Client
    ) -> None:
        """A token of the old generation would be refused everywhere, from its first use on."""
        old, operator = await second.token(admin), first.call(Operator())
        await first.gateway.tenants.suspend(operator, "acme")
        await first.gateway.tenants.reactivate(operator, "acme")
        with pytest.raises(Unauthenticated):
            await tenant_of(second, old)
        fresh = await second.token(admin)
        for gateway in (first, second):
            assert (await tenant_of(gateway, fresh)).token_generation == 1

    async def test_a_newer_token_is_accepted_where_the_row_before_is_remembered(
        self, first: RunningGateway, second: RunningGateway, admin: Client
    ) -> None:
        operator = first.call(Operator())
        await first.gateway.tenants.suspend(operator, "acme")
        await first.gateway.tenants.reactivate(operator, "acme")
        assert (await tenant_of(second, await first.token(admin))).token_generation == 1

    async def test_where_the_cache_is_cold_the_row_is_read_each_time(
        self,
        first: RunningGateway,
        second: RunningGateway,
        admin: Client,
        redis: Redis,
    ) -> None:
        """What happens behind the services' backs, and would raise no generation."""
        token = await first.token(admin)
        await redis.flushdb()
        async with first.gateway.storage.registry_unit() as unit:
            held = await unit.tenants.get("acme")
            assert held is not None
            await unit.tenants.save(replace(held, status=TenantStatus.SUSPENDED))
        with pytest.raises(Unauthenticated):
            await tenant_of(second, token)
        assert await second.gateway.authenticator.active_tenant("acme", second.clock.now) is None


async def tenant_of(gateway: RunningGateway, token: str) -> Tenant:
    principal = await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    assert isinstance(principal, AgentPrincipal)
    return principal.tenant
