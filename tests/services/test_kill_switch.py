"""The kill switch of an agent and of a whole tenant: what it stops, and what is there when it is
released."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias
from uuid import UUID, uuid4

import anyio
import pytest
from redis.asyncio import Redis

from db.errors import (
    AgentNotActive,
    Forbidden,
    InvalidInput,
    InvalidTransition,
    NotFound,
    ScopeExceeded,
    Unauthenticated,
)
from db.filters import CredentialFilter
from db.pages import PageRequest
from db.records import (
    NIL_AGENT,
    Agent,
    AgentStatus,
    AuditAction,
    CredentialStatus,
    OperatorEvent,
    Severity,
    Tenant,
    TenantStatus,
)
from gateway.auth.principal import Operator
from gateway.services.call import Call
from tests.gateway import Client, RunningGateway, profile

REASON = 'it writes to "everybody" -- at once'
ENGAGED, RELEASED = AuditAction.KILL_SWITCH_ENGAGED, AuditAction.KILL_SWITCH_RELEASED

Change: TypeAlias = Callable[[RunningGateway, Call, UUID], Awaitable[Agent]]


async def gets_a_token(gateway: RunningGateway, client: Client) -> bool:
    answer = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, client.secret),
    )
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


async def accepted(gateway: RunningGateway, token: str) -> bool:
    try:
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    except Unauthenticated:
        return False
    return True


async def row(gateway: RunningGateway, slug: str = "acme") -> Tenant:
    found = await gateway.gateway.storage.registry.tenants.get(slug)
    assert found is not None
    return found


async def operator_events(gateway: RunningGateway) -> list[OperatorEvent]:
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest(first=100))
    return list(page.items)


async def everything(gateway: RunningGateway, admin: Client) -> object:
    """All that a kill switch could change."""
    reader = gateway.gateway.storage.read(admin.prefix)
    agents = (await reader.agents.page(PageRequest(first=100))).items
    return agents, await row(gateway), await gateway.trail(admin), await operator_events(gateway)


def operator(gateway: RunningGateway) -> Call:
    return gateway.call(Operator())


async def suspended(gateway: RunningGateway, call: Call, agent_id: UUID) -> Agent:
    return await gateway.gateway.agents.suspend(call, agent_id)


async def reactivated(gateway: RunningGateway, call: Call, agent_id: UUID) -> Agent:
    return await gateway.gateway.agents.reactivate(call, agent_id)


async def decommissioned(gateway: RunningGateway, call: Call, agent_id: UUID) -> Agent:
    return await gateway.gateway.agents.decommission(call, agent_id)


class TestAnAgent:
    async def test_is_stopped_at_once_and_nothing_else_of_it_changes(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        other = await gateway.client_of(admin, email="other@agents.example")
        token, others = await gateway.token(worker), await gateway.token(other)
        before, tenant = await gateway.agent(worker), await row(gateway)
        gateway.clock.advance(1)
        call = await gateway.as_caller(admin)
        events = await operator_events(gateway)

        switched = await gateway.gateway.kill_switch.engage(call, REASON, agent_id=before.agent_id)

        assert switched.agent == await gateway.agent(worker)
        assert switched.agent == replace(
            before,
            kill_switched_at=call.now,
            kill_switch_reason=REASON,
            token_generation=before.token_generation + 1,
            updated_at=call.now,
        )
        assert switched.tenant == await row(gateway) == tenant
        [event] = await gateway.trail(admin, ENGAGED)
        assert event.severity is Severity.CRITICAL
        assert (str(event.agent_id), event.timestamp) == (admin.client_id, call.now)
        assert event.metadata == {
            "scope": "agent", "agentId": worker.client_id, "reason": REASON, "by": "agent",
        }  # fmt: skip
        assert await operator_events(gateway) == events
        assert not await accepted(gateway, token)
        assert not await gets_a_token(gateway, worker)
        assert await accepted(gateway, others)
        assert await gets_a_token(gateway, other)

    async def test_goes_on_as_what_it_was_but_its_old_tokens_do_not(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, token = UUID(worker.client_id), await gateway.token(worker)
        before, call = await gateway.agent(worker), await gateway.as_caller(admin)
        await gateway.gateway.kill_switch.engage(call, REASON, agent_id=agent_id)
        gateway.clock.advance(7)
        call = await gateway.as_caller(admin)

        switched = await gateway.gateway.kill_switch.release(call, "mended", agent_id=agent_id)

        assert switched.agent == await gateway.agent(worker)
        assert switched.agent == replace(
            before, token_generation=before.token_generation + 1, updated_at=call.now
        )
        [engaged] = await gateway.trail(admin, ENGAGED)
        [event] = await gateway.trail(admin, RELEASED)
        assert event.severity is Severity.CRITICAL
        assert event.metadata == {
            "scope": "agent", "agentId": worker.client_id, "reason": "mended", "by": "agent",
            "engagedAt": engaged.timestamp.isoformat(), "status": "active",
        }  # fmt: skip
        assert not await accepted(gateway, token)
        assert await accepted(gateway, await gateway.token(worker))

    @pytest.mark.parametrize(
        ("before", "meanwhile", "after"),
        [
            ([], [], AgentStatus.ACTIVE),
            ([suspended], [], AgentStatus.SUSPENDED),
            ([], [suspended], AgentStatus.SUSPENDED),
            ([suspended], [reactivated], AgentStatus.ACTIVE),
            ([], [suspended, reactivated], AgentStatus.ACTIVE),
            ([], [decommissioned], AgentStatus.DECOMMISSIONED),
            ([suspended], [decommissioned], AgentStatus.DECOMMISSIONED),
        ],
    )
    async def test_has_a_status_all_along_which_decides_once_the_switch_is_released(
        self,
        gateway: RunningGateway,
        before: list[Change],
        meanwhile: list[Change],
        after: AgentStatus,
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, call = UUID(worker.client_id), await gateway.as_caller(admin)
        for change in before:
            await change(gateway, call, agent_id)
        was = (await gateway.agent(worker)).status
        await gateway.gateway.kill_switch.engage(call, REASON, agent_id=agent_id)
        assert (await gateway.agent(worker)).status is was
        assert not await gets_a_token(gateway, worker)
        for change in meanwhile:
            changed = await change(gateway, call, agent_id)
            assert changed.kill_switched_at is not None
            assert not changed.is_active
            assert not await gets_a_token(gateway, worker)
        await gateway.gateway.kill_switch.release(call, agent_id=agent_id)
        assert (await gateway.agent(worker)).status is after
        assert await gets_a_token(gateway, worker) == (after is AgentStatus.ACTIVE)

    async def test_may_stop_itself(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        await gateway.gateway.kill_switch.engage(call, REASON, agent_id=UUID(admin.client_id))
        assert not await gets_a_token(gateway, admin)
        with pytest.raises(Unauthenticated):
            await gateway.gateway.kill_switch.release(call, agent_id=UUID(admin.client_id))
        # Nobody of the tenant may help it up, but the operator can.
        released = gateway.gateway.kill_switch.release
        await released(operator(gateway), agent_id=UUID(admin.client_id), slug="acme")
        assert await gets_a_token(gateway, admin)

    async def test_that_is_stopped_is_given_no_secret_but_can_lose_one(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, call = UUID(worker.client_id), await gateway.as_caller(admin)
        credentials = gateway.gateway.credentials
        reader = gateway.gateway.storage.read(admin.prefix).credentials
        await gateway.gateway.kill_switch.engage(call, REASON, agent_id=agent_id)
        [kept] = (await reader.page(PageRequest(), CredentialFilter(client_id=agent_id))).items
        before = await everything(gateway, admin)
        with pytest.raises(AgentNotActive):
            await credentials.generate(call, agent_id)
        with pytest.raises(AgentNotActive):
            await credentials.rotate(call, kept.credential_id)
        assert (await reader.page(PageRequest(), CredentialFilter(client_id=agent_id))).items == (
            kept,
        )
        assert await everything(gateway, admin) == before
        revoked = await credentials.revoke(call, kept.credential_id)
        assert revoked.status is CredentialStatus.REVOKED

    async def test_is_released_only_by_a_token_that_covers_it(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        strong = await gateway.client_of(admin, ["audit:read", "billing:read"])
        agent_id = UUID(strong.client_id)
        narrow = await gateway.as_caller(admin, "agents:write agents:read")
        await gateway.gateway.kill_switch.engage(narrow, REASON, agent_id=agent_id)
        before = await everything(gateway, admin)
        with pytest.raises(ScopeExceeded, match="audit:read"):
            await gateway.gateway.kill_switch.release(narrow, agent_id=agent_id)
        assert await everything(gateway, admin) == before
        assert not await gets_a_token(gateway, strong)
        wide = await gateway.as_caller(admin, "agents:write audit:read")
        await gateway.gateway.kill_switch.release(wide, agent_id=agent_id)
        assert await gets_a_token(gateway, strong)

    async def test_that_was_stopped_by_the_operator_is_in_both_trails(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, switch = UUID(worker.client_id), gateway.gateway.kill_switch
        await switch.engage(operator(gateway), REASON, agent_id=agent_id, slug="acme")
        assert not await gets_a_token(gateway, worker)
        await switch.release(operator(gateway), "mended", agent_id=agent_id, slug="acme")
        assert await gets_a_token(gateway, worker)
        [engaged], [released] = (
            await gateway.trail(admin, ENGAGED),
            await gateway.trail(admin, RELEASED),
        )
        assert engaged.agent_id == released.agent_id == NIL_AGENT
        assert engaged.metadata["by"] == released.metadata["by"] == "operator"
        told = [(e.action, e.tenant, e.metadata) for e in (await operator_events(gateway))[:2]]
        scope = {"scope": "agent", "agentId": worker.client_id}
        assert told == [
            (
                "kill_switch.released", "acme",
                {
                    **scope, "reason": "mended", "status": "active",
                    "engagedAt": engaged.timestamp.isoformat(),
                },
            ),
            ("kill_switch.engaged", "acme", {**scope, "reason": REASON}),
        ]  # fmt: skip

    async def test_that_is_unknown_or_foreign_is_not_found(self, gateway: RunningGateway) -> None:
        acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
        call, switch = await gateway.as_caller(acme), gateway.gateway.kill_switch
        theirs = UUID(globex.client_id)
        await switch.engage(operator(gateway), REASON, agent_id=theirs, slug="globex")
        before = await everything(gateway, acme), await everything(gateway, globex)
        for agent_id in (uuid4(), theirs, NIL_AGENT):
            for slug in (None, "acme"):
                with pytest.raises(NotFound, match="agent"):
                    await switch.engage(call, REASON, agent_id=agent_id, slug=slug)
                with pytest.raises(NotFound, match="agent"):
                    await switch.release(call, agent_id=agent_id, slug=slug)
            with pytest.raises(NotFound, match="agent"):
                await switch.engage(operator(gateway), REASON, agent_id=agent_id, slug="acme")
            with pytest.raises(NotFound, match="agent"):
                await switch.release(operator(gateway), agent_id=agent_id, slug="acme")
        assert (await everything(gateway, acme), await everything(gateway, globex)) == before

    async def test_that_is_gone_for_good_is_not_stopped_once_more(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, call = UUID(worker.client_id), await gateway.as_caller(admin)
        await gateway.gateway.agents.decommission(call, agent_id)
        before = await everything(gateway, admin)
        with pytest.raises(InvalidTransition, match="for good"):
            await gateway.gateway.kill_switch.engage(call, REASON, agent_id=agent_id)
        assert await everything(gateway, admin) == before


class TestTheFleet:
    async def test_is_stopped_by_one_of_it_who_is_stopped_too(
        self, gateway: RunningGateway
    ) -> None:
        admin, globex = await gateway.onboard(), await gateway.onboard("globex")
        worker = await gateway.client_of(admin)
        captain = await gateway.client_of(admin, ["agents:write"], email="c@agents.example")
        tokens = [await gateway.token(each) for each in (admin, worker, captain)]
        theirs = await gateway.token(globex)
        before, call = await row(gateway), await gateway.as_caller(captain)
        agents = [await gateway.agent(each) for each in (admin, worker, captain)]
        events = await operator_events(gateway)

        switched = await gateway.gateway.kill_switch.engage(call, REASON)

        assert switched.agent is None
        assert switched.tenant == await row(gateway)
        assert switched.tenant == replace(
            before,
            kill_switched_at=call.now,
            kill_switch_reason=REASON,
            token_generation=before.token_generation + 1,
            updated_at=call.now,
        )
        assert [await gateway.agent(each) for each in (admin, worker, captain)] == agents
        [event] = await gateway.trail(admin, ENGAGED)
        assert event.severity is Severity.CRITICAL
        assert str(event.agent_id) == captain.client_id
        assert event.metadata == {"scope": "fleet", "reason": REASON, "by": "agent"}
        assert await operator_events(gateway) == events
        for token in tokens:
            assert not await accepted(gateway, token)
        for each in (admin, worker, captain):
            assert not await gets_a_token(gateway, each)
        assert await accepted(gateway, theirs)
        assert await gets_a_token(gateway, globex)

    async def test_is_released_by_the_operator_alone(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        token, call = await gateway.token(admin), await gateway.as_caller(admin)
        await gateway.gateway.kill_switch.engage(call, REASON)
        before = await everything(gateway, admin)
        for slug in (None, "acme"):
            with pytest.raises(Forbidden, match="operator"):
                await gateway.gateway.kill_switch.release(call, slug=slug)
        assert await everything(gateway, admin) == before
        gateway.clock.advance(3)
        was = await row(gateway)

        switched = await gateway.gateway.kill_switch.release(
            operator(gateway), "mended", slug="acme"
        )

        assert switched.tenant == await row(gateway)
        assert switched.tenant == replace(
            was, kill_switched_at=None, kill_switch_reason=None, updated_at=gateway.clock.now
        )
        [event] = await gateway.trail(admin, RELEASED)
        assert (event.agent_id, event.severity) == (NIL_AGENT, Severity.CRITICAL)
        said = {
            "scope": "fleet", "reason": "mended", "status": "active",
            "engagedAt": call.now.isoformat(),
        }  # fmt: skip
        assert event.metadata == {**said, "by": "operator"}
        newest = (await operator_events(gateway))[0]
        assert (newest.action, newest.tenant) == ("kill_switch.released", "acme")
        assert newest.metadata == said
        assert not await accepted(gateway, token)
        assert await accepted(gateway, await gateway.token(admin))

    async def test_stays_stopped_while_its_tenant_comes_and_goes(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        switch, tenants = gateway.gateway.kill_switch, gateway.gateway.tenants
        await tenants.suspend(operator(gateway), "acme")
        await switch.engage(operator(gateway), REASON, slug="acme")
        tenant = await tenants.reactivate(operator(gateway), "acme")
        assert (tenant.status, tenant.is_killed) == (TenantStatus.ACTIVE, True)
        assert not await gets_a_token(gateway, admin)
        await switch.release(operator(gateway), slug="acme")
        assert await gets_a_token(gateway, admin)

    async def test_and_an_agent_of_it_have_switches_of_their_own(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id, switch = UUID(worker.client_id), gateway.gateway.kill_switch
        await switch.engage(operator(gateway), REASON, slug="acme")
        await switch.engage(operator(gateway), REASON, slug="acme", agent_id=agent_id)
        await switch.release(operator(gateway), slug="acme")
        assert not await gets_a_token(gateway, worker)
        assert await gets_a_token(gateway, admin)
        await switch.release(await gateway.as_caller(admin), agent_id=agent_id)
        assert await gets_a_token(gateway, worker)

    async def test_has_an_administrator_who_can_be_given_a_new_secret_before_it_is_released(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        switch, administrators = gateway.gateway.kill_switch, gateway.gateway.administrators
        admin_id = UUID(admin.client_id)
        await switch.engage(operator(gateway), REASON, slug="acme")
        await switch.engage(operator(gateway), REASON, slug="acme", agent_id=admin_id)
        actions = await gateway.actions(admin)
        reset = await administrators.reset(operator(gateway), "acme")
        # It was active all along: nobody brings it back.
        assert (await gateway.actions(admin))[len(actions) :] == [
            "credential.revoked", "credential.generated",
        ]  # fmt: skip
        fresh = replace(admin, secret=reset.secret)
        for released in (None, admin_id):
            assert not await gets_a_token(gateway, fresh)
            await switch.release(operator(gateway), slug="acme", agent_id=released)
        assert await gets_a_token(gateway, fresh)
        assert not await gets_a_token(gateway, admin)

    @pytest.mark.parametrize(
        "status",
        [
            TenantStatus.PROVISIONING,
            TenantStatus.FAILED,
            TenantStatus.REMOVING,
            TenantStatus.REMOVED,
        ],
    )
    async def test_of_a_tenant_that_is_not_there_yet_or_any_more_has_no_switch(
        self, gateway: RunningGateway, status: TenantStatus
    ) -> None:
        admin = await gateway.onboard()
        async with gateway.gateway.storage.registry_unit() as unit:
            held = await unit.tenants.get("acme")
            assert held is not None
            await unit.tenants.save(replace(held, status=status))
        before, switch = await everything(gateway, admin), gateway.gateway.kill_switch
        for agent_id in (None, UUID(admin.client_id)):
            with pytest.raises(InvalidTransition, match=status.value):
                await switch.engage(operator(gateway), REASON, slug="acme", agent_id=agent_id)
            with pytest.raises(InvalidTransition, match=status.value):
                await switch.release(operator(gateway), slug="acme", agent_id=agent_id)
        assert await everything(gateway, admin) == before

    @pytest.mark.parametrize("whole", [True, False], ids=["fleet", "agent"])
    async def test_of_a_tenant_that_is_removed_meanwhile_is_left_as_it_is(
        self, in_memory: RunningGateway, whole: bool
    ) -> None:
        """Nothing more is written where an export may have been taken already."""
        admin, switch = await in_memory.onboard(), in_memory.gateway.kill_switch
        agent_id = None if whole else UUID(admin.client_id)
        async with in_memory.gateway.storage.registry_unit() as unit:
            held = await unit.tenants.get("acme")
            assert held is not None
            engaging = asyncio.create_task(
                switch.engage(operator(in_memory), REASON, slug="acme", agent_id=agent_id)
            )
            await anyio.wait_all_tasks_blocked()
            assert not engaging.done()
            await unit.tenants.save(replace(held, status=TenantStatus.REMOVING))
        with pytest.raises(InvalidTransition, match="removing"):
            await engaging
        assert (await row(in_memory)).kill_switched_at is None
        assert (await in_memory.agent(admin)).kill_switched_at is None
        assert ENGAGED.value not in await in_memory.actions(admin)

    @pytest.mark.parametrize("slug", ["initech", "ACME", "", "a'b", "\x00", "x" * 100, "pg_x"])
    async def test_of_a_tenant_that_cannot_be_is_not_found(
        self, in_memory: RunningGateway, slug: str
    ) -> None:
        admin, switch = await in_memory.onboard(), in_memory.gateway.kill_switch
        before = await everything(in_memory, admin)
        for agent_id in (None, UUID(admin.client_id)):
            with pytest.raises(NotFound) as told:
                await switch.engage(operator(in_memory), REASON, slug=slug, agent_id=agent_id)
            assert told.value.path == ("tenant",)
            with pytest.raises(NotFound):
                await switch.release(operator(in_memory), slug=slug, agent_id=agent_id)
        assert await everything(in_memory, admin) == before

    async def test_of_another_tenant_is_not_found_by_an_agent(
        self, gateway: RunningGateway
    ) -> None:
        acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
        call, switch = await gateway.as_caller(acme), gateway.gateway.kill_switch
        before = await everything(gateway, acme), await everything(gateway, globex)
        for slug in ("globex", "nobody", ""):
            for agent_id in (None, UUID(acme.client_id), UUID(globex.client_id)):
                with pytest.raises(NotFound):
                    await switch.engage(call, REASON, slug=slug, agent_id=agent_id)
            with pytest.raises(NotFound):
                await switch.release(call, slug=slug, agent_id=UUID(globex.client_id))
        assert (await everything(gateway, acme), await everything(gateway, globex)) == before


@pytest.mark.parametrize("fleet", [False, True], ids=["agent", "fleet"])
class TestEither:
    async def test_is_stopped_once_and_made_known_as_often_as_it_is_asked_for(
        self, on_postgres: RunningGateway, redis: Redis, fleet: bool
    ) -> None:
        gateway = on_postgres
        admin = await gateway.onboard()
        agent_id, switch = None if fleet else UUID(admin.client_id), gateway.gateway.kill_switch
        key = admin.prefix.tenant_generation_key
        if agent_id is not None:
            key = admin.prefix.agent_generation_key(agent_id)
        await switch.engage(operator(gateway), REASON, slug="acme", agent_id=agent_id)
        assert await redis.get(key) == b"1"
        await redis.delete(key)
        before = await everything(gateway, admin)
        gateway.clock.advance(60)
        with pytest.raises(InvalidTransition, match="already"):
            await switch.engage(operator(gateway), "again", slug="acme", agent_id=agent_id)
        assert await redis.get(key) == b"1"
        assert await everything(gateway, admin) == before

    async def test_that_is_not_stopped_is_not_released(
        self, gateway: RunningGateway, fleet: bool
    ) -> None:
        admin = await gateway.onboard()
        before = await everything(gateway, admin)
        agent_id = None if fleet else UUID(admin.client_id)
        with pytest.raises(InvalidTransition, match="not engaged"):
            await gateway.gateway.kill_switch.release(
                operator(gateway), slug="acme", agent_id=agent_id
            )
        assert await everything(gateway, admin) == before

    @pytest.mark.parametrize("reason", ["", " \n\t", "x" * 501, "a\x00b", "\ud800"])
    async def test_needs_a_reason_that_can_be_kept(
        self, in_memory: RunningGateway, fleet: bool, reason: str
    ) -> None:
        gateway = in_memory
        admin = await gateway.onboard()
        agent_id, switch = None if fleet else UUID(admin.client_id), gateway.gateway.kill_switch
        before = await everything(gateway, admin)
        with pytest.raises(InvalidInput) as told:
            await switch.engage(operator(gateway), reason, slug="acme", agent_id=agent_id)
        assert told.value.path == ("reason",)
        assert await everything(gateway, admin) == before
        await switch.engage(operator(gateway), "x" * 500, slug="acme", agent_id=agent_id)
        before = await everything(gateway, admin)
        with pytest.raises(InvalidInput):
            await switch.release(operator(gateway), reason, slug="acme", agent_id=agent_id)
        assert await everything(gateway, admin) == before

    async def test_is_meant_by_an_operator_who_says_of_which_tenant(
        self, in_memory: RunningGateway, fleet: bool
    ) -> None:
        admin = await in_memory.onboard()
        agent_id, switch = None if fleet else UUID(admin.client_id), in_memory.gateway.kill_switch
        before = await everything(in_memory, admin)
        with pytest.raises(InvalidInput) as told:
            await switch.engage(operator(in_memory), REASON, agent_id=agent_id)
        assert told.value.path == ("tenant",)
        with pytest.raises(InvalidInput):
            await switch.release(operator(in_memory), agent_id=agent_id)
        assert await everything(in_memory, admin) == before

    async def test_of_many_who_stop_it_at_once_one_does(
        self, gateway: RunningGateway, fleet: bool
    ) -> None:
        admin = await gateway.onboard()
        agent_id = None if fleet else UUID(admin.client_id)
        engage = gateway.gateway.kill_switch.engage
        outcomes = await asyncio.gather(
            *(engage(operator(gateway), REASON, slug="acme", agent_id=agent_id) for _ in range(4)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, InvalidTransition) for each in outcomes) == 3
        assert len(await gateway.trail(admin, ENGAGED)) == 1
        generation = (await row(gateway)).token_generation
        if not fleet:
            generation = (await gateway.agent(admin)).token_generation
        assert generation == 1

    async def test_does_nothing_after_the_answer_that_it_is_stopped(
        self, gateway: RunningGateway, fleet: bool
    ) -> None:
        admin = await gateway.onboard()
        calls = [await gateway.as_caller(admin) for _ in range(30)]
        agents = gateway.gateway.agents
        acting = [
            asyncio.ensure_future(agents.register(each, profile(f"a{n}@agents.example", ["a:b"])))
            for n, each in enumerate(calls)
        ]
        await asyncio.wait(acting, return_when=asyncio.FIRST_COMPLETED)
        agent_id = None if fleet else UUID(admin.client_id)

        await gateway.gateway.kill_switch.engage(
            operator(gateway), REASON, slug="acme", agent_id=agent_id
        )

        count = gateway.gateway.storage.read(admin.prefix).agents.count
        answered = await count()
        outcomes = await asyncio.gather(*acting, return_exceptions=True)
        assert await count() == answered
        done = [each for each in outcomes if not isinstance(each, BaseException)]
        assert len(done) == answered - 1
        assert all(isinstance(each, Unauthenticated) for each in outcomes if each not in done)
