"""A bearer token becomes a caller, or nothing does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from db.errors import Forbidden, Unauthenticated
from db.records import Tenant, TenantStatus
from gateway.auth.principal import (
    AgentPrincipal,
    Anonymous,
    Operator,
    agent_of,
    require_operator,
    require_scope,
)
from gateway.auth.secrets import SecretHasher
from tests.gateway import (
    CHEAPEST_BCRYPT,
    OPERATOR_TOKEN,
    RunningGateway,
    memory_settings,
    running,
)


async def principal(gateway: RunningGateway, *authorization: str) -> object:
    return await gateway.gateway.authenticator.bearer(authorization, gateway.clock.now)


async def test_no_header_is_nobody(in_memory: RunningGateway) -> None:
    assert await principal(in_memory) == Anonymous()


async def test_the_operator_s_token_is_the_operator(in_memory: RunningGateway) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert await principal(in_memory, f"{scheme} {OPERATOR_TOKEN}") == Operator()


async def test_without_an_operator_s_token_there_is_no_operator() -> None:
    async with running(memory_settings(operator_token=None)) as started:
        for token in (OPERATOR_TOKEN, "", "None", " "):
            with pytest.raises(Unauthenticated):
                await principal(started, f"Bearer {token}")


async def test_an_access_token_is_its_agent_with_the_scope_of_the_token(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    token = await gateway.token(admin, "agents:read audit:read")
    found = await principal(gateway, f"Bearer {token}")
    assert isinstance(found, AgentPrincipal)
    assert found.tenant.slug == "acme"
    assert str(found.agent_id) == admin.client_id
    assert found.scope == {"agents:read", "audit:read"}


@pytest.mark.parametrize(
    "headers",
    [
        ["{t}"],
        ["Basic {t}"],
        ["Bearer"],
        ["Bearer "],
        ["Bearer  {t}"],
        ["Bearer\t{t}"],
        ["Bearer {t} "],
        ["Bearer {t},"],
        ["Bearer {t}", "Bearer {t}"],
        ["Bearer {t}", "Basic x"],
        ["Bearer " + OPERATOR_TOKEN + "x"],
        ["Bearer " + OPERATOR_TOKEN[:-1]],
        ["Bearer \xff"],
        [""],
    ],
)
async def test_anything_but_one_bearer_token_is_refused(
    in_memory: RunningGateway, headers: list[str]
) -> None:
    token = await in_memory.token(await in_memory.onboard())
    with pytest.raises(Unauthenticated):
        await principal(in_memory, *(header.replace("{t}", token) for header in headers))


@pytest.mark.parametrize(
    "status", [s for s in TenantStatus if s is not TenantStatus.ACTIVE], ids=str
)
async def test_only_an_active_tenant_s_tokens_are_accepted(
    in_memory: RunningGateway, status: TenantStatus
) -> None:
    token = await in_memory.token(await in_memory.onboard())
    async with in_memory.gateway.storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, status=status))
    with pytest.raises(Unauthenticated):
        await principal(in_memory, f"Bearer {token}")
    assert await in_memory.gateway.authenticator.active_tenant("acme", in_memory.clock.now) is None


async def test_a_token_older_than_the_tenant_s_generation_is_refused(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    token = await gateway.token(admin)
    async with gateway.gateway.storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, token_generation=tenant.token_generation + 1))
    with pytest.raises(Unauthenticated):
        await principal(gateway, f"Bearer {token}")
    assert await principal(gateway, f"Bearer {await gateway.token(admin)}")


async def test_every_failed_login_costs_one_comparison_whoever_it_names() -> None:
    """An attacker with a stopwatch cannot tell a client that exists from one that does not."""

    class Counting(SecretHasher):
        comparisons = 0

        async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
            self.comparisons += 1
            return await super().matches(secret, secret_hash, whence)

    hasher = Counting(CHEAPEST_BCRYPT)
    async with running(hasher=hasher) as started:
        admin = await started.onboard()
        other = await started.onboard("globex")
        worker = await started.client_of(admin)
        call = await started.as_caller(admin)
        await started.gateway.agents.decommission(call, UUID(worker.client_id))
        costs = []
        for slug, client_id in (
            ("acme", admin.client_id),
            ("acme", worker.client_id),
            ("acme", other.client_id),
            ("acme", "not-a-uuid"),
            ("globex", admin.client_id),
        ):
            before = hasher.comparisons
            answer = await started.client.post(
                f"/t/{slug}/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(client_id, admin.secret + "x" * (slug == "acme")),
            )
            assert answer.status_code == 401
            costs.append(hasher.comparisons - before)
        assert costs == [1] * 5


class TestWhatACallerMay:
    def agent(self) -> AgentPrincipal:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        tenant = Tenant("acme", "Acme", TenantStatus.ACTIVE, now, now)
        return AgentPrincipal(tenant, uuid4(), uuid4(), frozenset({"agents:read"}), (0, 0), uuid4())

    def test_a_scope_is_held_or_it_is_not(self) -> None:
        agent = self.agent()
        assert require_scope(agent, "agents:read") is agent
        with pytest.raises(Forbidden) as refused:
            require_scope(agent, "agents:write")
        assert refused.value.scope == "agents:write"

    def test_the_operator_has_no_part_in_a_tenant(self) -> None:
        for ask in (agent_of, lambda who: require_scope(who, "agents:read")):
            with pytest.raises(Forbidden):
                ask(Operator())

    def test_no_agent_is_the_operator(self) -> None:
        assert require_operator(Operator()) == Operator()
        with pytest.raises(Forbidden):
            require_operator(self.agent())

    def test_nobody_is_asked_to_authenticate(self) -> None:
        for ask in (agent_of, require_operator, lambda who: require_scope(who, "agents:read")):
            with pytest.raises(Unauthenticated):
                ask(Anonymous())
