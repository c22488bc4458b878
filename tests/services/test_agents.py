"""Agents: registered, changed, suspended, brought back, retired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import (
    AgentIdPError,
    EmailTaken,
    InvalidInput,
    InvalidTransition,
    NotFound,
    ScopeExceeded,
    Unauthenticated,
)
from db.records import Agent, AgentStatus, AgentType, AuditAction, CredentialStatus
from gateway.services.agents import AgentChanges, AgentService, NewAgent
from gateway.services.call import Call
from tests.gateway import Client, RunningGateway, profile

Act: TypeAlias = Callable[[AgentService, Call, UUID], Awaitable[Agent]]
ACTS: dict[str, Act] = {
    "suspend": AgentService.suspend,
    "reactivate": AgentService.reactivate,
    "decommission": AgentService.decommission,
}


async def bring_to(gateway: RunningGateway, call: Call, status: AgentStatus) -> Agent:
    """A new agent in that status."""
    agents = gateway.gateway.agents
    agent = await agents.register(call, profile(f"{uuid4().hex}@agents.example", ["a:b"]))
    if status is AgentStatus.SUSPENDED:
        return await agents.suspend(call, agent.agent_id)
    if status is AgentStatus.DECOMMISSIONED:
        return await agents.decommission(call, agent.agent_id)
    return agent


class TestRegistration:
    async def test_a_registered_agent_is_active_scored_and_stored(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        gateway.clock.advance(1)
        agent = await gateway.gateway.agents.register(
            call, profile("worker@agents.example", ["resume:read", "a:b", "resume:read"])
        )
        assert agent.status is AgentStatus.ACTIVE
        assert agent.capabilities == ("resume:read", "a:b")
        assert agent.created_at == agent.updated_at == call.now
        assert agent.composite_score > 0
        assert await gateway.gateway.agents.get(call, agent.agent_id) == agent
        assert await gateway.gateway.agents.by_email(call, "worker@agents.example") == agent
        [_, event] = await gateway.trail(admin, AuditAction.AGENT_CREATED)
        assert str(event.agent_id) == admin.client_id
        assert event.metadata["agentId"] == str(agent.agent_id)
        assert event.timestamp == call.now

    async def test_an_address_is_taken_for_ever(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agents = gateway.gateway.agents
        first = await agents.register(call, profile("worker@agents.example", ["a:b"]))
        await agents.decommission(call, first.agent_id)
        before = await gateway.actions(admin)
        with pytest.raises(EmailTaken):
            await agents.register(call, profile("worker@agents.example", ["c:d"]))
        assert await gateway.actions(admin) == before
        found = await agents.by_email(call, "worker@agents.example")
        assert found is not None
        assert found.agent_id == first.agent_id

    async def test_another_tenant_may_have_the_same_address(self, gateway: RunningGateway) -> None:
        for slug in ("acme", "globex"):
            call = await gateway.as_caller(await gateway.onboard(slug))
            await gateway.gateway.agents.register(call, profile("worker@agents.example", ["a:b"]))

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"version": "1"}, "version"),
            ({"capabilities": []}, "capabilities"),
            ({"capabilities": ["agents"]}, "capabilities"),
            ({"capabilities": ["tenants:read"]}, "capabilities"),
            ({"capabilities": ["jobs:write"]}, "capabilities"),
            ({"capabilities": ["a:*"]}, "capabilities"),
            ({"owner": " "}, "owner"),
            ({"owner": "x" * 129}, "owner"),
            ({"name": "x" * 129}, "name"),
            ({"name": "a\x00"}, "name"),
            ({"framework": "x" * 65}, "framework"),
            ({"description": "\ud800"}, "description"),
            ({"channels": ["x" * 129]}, "channels"),
            ({"tools": [""]}, "tools"),
            ({"permissions": {"a": float("inf")}}, "permissions"),
            ({"metadata": {"a": "\x00"}}, "metadata"),
        ],
        ids=lambda value: ascii(value)[:40],
    )  # fmt: skip
    async def test_what_is_outside_its_grammar_registers_and_changes_nothing(
        self, in_memory: RunningGateway, changes: AgentChanges, path: str
    ) -> None:
        admin = await in_memory.onboard()
        call = await in_memory.as_caller(admin)
        agents = in_memory.gateway.agents
        kept = await agents.register(call, profile("kept@agents.example", ["a:b"]))
        before = await in_memory.actions(admin)
        new = profile("worker@agents.example", ["a:b"])
        with pytest.raises(InvalidInput) as refused:
            await agents.register(call, NewAgent(new.email, {**new.profile, **changes}))
        assert refused.value.path == (path,)
        with pytest.raises(InvalidInput) as refused:
            await agents.update(call, kept.agent_id, changes)
        assert refused.value.path == (path,)
        assert await agents.by_email(call, new.email) is None
        assert await agents.get(call, kept.agent_id) == kept
        assert await in_memory.actions(admin) == before

    @pytest.mark.parametrize(
        "email", ["", "x", "a@b", "a b@c.example", "a@b.example\x00", "é@b.example"]
    )
    async def test_what_is_no_address_registers_nothing(
        self, in_memory: RunningGateway, email: str
    ) -> None:
        admin = await in_memory.onboard()
        call = await in_memory.as_caller(admin)
        before = await in_memory.actions(admin)
        with pytest.raises(InvalidInput) as refused:
            await in_memory.gateway.agents.register(call, profile(email, ["a:b"]))
        assert refused.value.path == ("email",)
        assert await in_memory.actions(admin) == before


class TestStatus:
    RULES: dict[tuple[AgentStatus, str], AgentStatus | None] = {  # noqa: RUF012
        (AgentStatus.ACTIVE, "suspend"): AgentStatus.SUSPENDED,
        (AgentStatus.ACTIVE, "reactivate"): None,
        (AgentStatus.ACTIVE, "decommission"): AgentStatus.DECOMMISSIONED,
        (AgentStatus.SUSPENDED, "suspend"): None,
        (AgentStatus.SUSPENDED, "reactivate"): AgentStatus.ACTIVE,
        (AgentStatus.SUSPENDED, "decommission"): AgentStatus.DECOMMISSIONED,
        (AgentStatus.DECOMMISSIONED, "suspend"): None,
        (AgentStatus.DECOMMISSIONED, "reactivate"): None,
        (AgentStatus.DECOMMISSIONED, "decommission"): None,
    }

    @pytest.mark.parametrize(
        ("status", "act", "becomes"),
        [(*rule, becomes) for rule, becomes in RULES.items()],
        ids=lambda value: str(value),
    )
    async def test_a_status_changes_as_the_rules_say_or_not_at_all(
        self,
        gateway: RunningGateway,
        status: AgentStatus,
        act: str,
        becomes: AgentStatus | None,
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agent = await bring_to(gateway, call, status)
        before = await gateway.actions(admin)
        gateway.clock.advance(1)
        call = await gateway.as_caller(admin)
        before += ["token.issued"]
        if becomes is None:
            with pytest.raises(InvalidTransition):
                await ACTS[act](gateway.gateway.agents, call, agent.agent_id)
            assert await gateway.gateway.agents.get(call, agent.agent_id) == agent
            assert await gateway.actions(admin) == before
            return
        changed = await ACTS[act](gateway.gateway.agents, call, agent.agent_id)
        assert changed.status is becomes
        assert changed.updated_at == call.now
        assert await gateway.gateway.agents.get(call, agent.agent_id) == changed
        # Leaving `active` cuts what was issued; coming back does not undo the cut.
        cut = 0 if becomes is AgentStatus.ACTIVE else 1
        assert changed.token_generation == agent.token_generation + cut
        assert (await gateway.actions(admin))[len(before) :] == [f"agent.{_past(act)}"]

    @pytest.mark.parametrize("act", list(ACTS))
    async def test_an_unknown_or_foreign_agent_is_not_found(
        self, gateway: RunningGateway, act: str
    ) -> None:
        admin, other = await gateway.onboard(), await gateway.onboard("globex")
        call = await gateway.as_caller(admin)
        before = await gateway.actions(admin), await gateway.actions(other)
        for agent_id in (uuid4(), UUID(other.client_id), UUID(int=0)):
            with pytest.raises(NotFound):
                await ACTS[act](gateway.gateway.agents, call, agent_id)
            with pytest.raises(NotFound):
                await gateway.gateway.agents.update(call, agent_id, {"owner": "thief"})
            assert await gateway.gateway.agents.get(call, agent_id) is None
        assert (await gateway.agent(other)).status is AgentStatus.ACTIVE
        assert (await gateway.agent(other)).owner == "globex"
        assert (await gateway.actions(admin), await gateway.actions(other)) == before

    async def test_of_two_that_suspend_at_once_one_does(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agent = await bring_to(gateway, call, AgentStatus.ACTIVE)
        outcomes: list[str] = []

        async def suspend() -> None:
            try:
                await gateway.gateway.agents.suspend(call, agent.agent_id)
                outcomes.append("suspended")
            except AgentIdPError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(suspend)
        assert sorted(outcomes) == ["INVALID_TRANSITION", "INVALID_TRANSITION", "suspended"]
        assert len(await gateway.trail(admin, AuditAction.AGENT_SUSPENDED)) == 1


class TestCut:
    """What a change of status does to tokens and credentials that are out already."""

    async def refused(self, gateway: RunningGateway, token: str) -> bool:
        try:
            await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
        except Unauthenticated:
            return True
        return False

    async def test_suspending_refuses_live_tokens_and_coming_back_does_not_revive_them(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        other = await gateway.client_of(admin, email="other@agents.example")
        token, others = await gateway.token(worker), await gateway.token(other)
        assert not await self.refused(gateway, token)
        call = await gateway.as_caller(admin)
        await gateway.gateway.agents.suspend(call, UUID(worker.client_id))
        assert await self.refused(gateway, token)
        await gateway.gateway.agents.reactivate(call, UUID(worker.client_id))
        assert await self.refused(gateway, token)
        assert not await self.refused(gateway, await gateway.token(worker))
        assert not await self.refused(gateway, others)

    async def test_a_suspended_agent_gets_no_token(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        await gateway.gateway.agents.suspend(await gateway.as_caller(admin), UUID(worker.client_id))
        answer = await self.ask(gateway, worker)
        assert answer == 401
        [event] = await gateway.trail(admin, AuditAction.AUTH_FAILED)
        assert event.metadata == {"reason": "agent_suspended"}

    async def test_decommissioning_revokes_every_credential_and_refuses_live_tokens(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        agent_id = UUID(worker.client_id)
        call = await gateway.as_caller(admin)
        second = await gateway.gateway.credentials.generate(call, agent_id, label="second")
        token = await gateway.token(worker)
        before = len(await gateway.trail(admin))
        await gateway.gateway.agents.decommission(call, agent_id)
        storage = gateway.gateway.storage.read(worker.prefix)
        assert not await storage.credentials.of_client(agent_id, call.now)
        kept = await storage.credentials.get(second.credential.credential_id)
        assert kept is not None
        assert (kept.status, kept.revoked_at) == (CredentialStatus.REVOKED, call.now)
        assert await self.refused(gateway, token)
        assert await self.ask(gateway, worker) == 401
        events = (await gateway.trail(admin))[before:]
        assert [event.action.value for event in events] == [
            "agent.decommissioned",
            "credential.revoked",
            "credential.revoked",
            "auth.failed",
        ]
        assert {event.timestamp for event in events[:3]} == {call.now}

    async def ask(self, gateway: RunningGateway, client: Client) -> int:
        answer = await gateway.client.post(
            f"/t/{client.slug}/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(client.client_id, client.secret),
        )
        return answer.status_code


class TestUpdate:
    async def test_what_is_named_changes_and_the_rest_stays(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agents = gateway.gateway.agents
        agent = await agents.register(call, profile("worker@agents.example", ["a:b"]))
        gateway.clock.advance(5)
        call = await gateway.as_caller(admin)
        changed = await agents.update(
            call,
            agent.agent_id,
            {"version": "2.0.0", "agent_type": AgentType.ROUTER, "metadata": {"a": [1, None]}},
        )
        assert (changed.version, changed.agent_type) == ("2.0.0", AgentType.ROUTER)
        assert changed.metadata == {"a": [1, None]}
        assert changed.updated_at == call.now
        for name in ("agent_id", "email", "owner", "capabilities", "created_at", "status"):
            assert getattr(changed, name) == getattr(agent, name)
        assert await agents.get(call, agent.agent_id) == changed
        [event] = await gateway.trail(admin, AuditAction.AGENT_UPDATED)
        assert event.metadata == {
            "agentId": str(agent.agent_id),
            "changed": ["agent_type", "metadata", "version"],
        }
        cleared = await agents.update(call, agent.agent_id, {"metadata": None})
        assert cleared.metadata is None

    async def test_a_change_to_what_it_is_already_is_none(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agents = gateway.gateway.agents
        agent = await agents.register(call, profile("worker@agents.example", ["a:b"]))
        gateway.clock.advance(5)
        unchanged: list[AgentChanges] = [
            {},
            {"version": agent.version},
            {"capabilities": ["a:b", "a:b"]},
        ]
        for changes in unchanged:
            assert await agents.update(call, agent.agent_id, changes) == agent
        assert not await gateway.trail(admin, AuditAction.AGENT_UPDATED)

    async def test_a_decommissioned_agent_is_not_changed_any_more(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agent = await bring_to(gateway, call, AgentStatus.DECOMMISSIONED)
        with pytest.raises(InvalidTransition):
            await gateway.gateway.agents.update(call, agent.agent_id, {"owner": "new"})
        assert await gateway.gateway.agents.get(call, agent.agent_id) == agent
        assert not await gateway.trail(admin, AuditAction.AGENT_UPDATED)

    async def test_the_score_follows_the_profile(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        agents = gateway.gateway.agents
        agent = await agents.register(call, profile("worker@agents.example", ["a:b"]))
        described = await agents.update(
            call,
            agent.agent_id,
            {"description": "reads resumes", "metadata": {"hasGuardrails": True}},
        )
        assert described.composite_score > agent.composite_score
        await gateway.gateway.credentials.generate(call, agent.agent_id)
        proven = await agents.update(call, agent.agent_id, {"description": "reads them all"})
        assert proven.composite_score > described.composite_score


class TestScope:
    """Whoever gives a gateway capability must hold it in the very token that it calls with."""

    async def test_a_narrow_token_registers_nothing_wider(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin, "agents:write audit:read")
        agents = gateway.gateway.agents
        with pytest.raises(ScopeExceeded, match="audit:write tokens:read") as refused:
            await agents.register(
                call, profile("a@agents.example", ["tokens:read", "audit:write", "audit:read"])
            )
        assert refused.value.path == ("capabilities",)
        assert await agents.by_email(call, "a@agents.example") is None
        assert len(await gateway.trail(admin, AuditAction.AGENT_CREATED)) == 1
        await agents.register(call, profile("a@agents.example", ["audit:read", "billing:write"]))

    async def test_a_narrow_token_adds_nothing_wider(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        wide = await gateway.as_caller(admin)
        narrow = await gateway.as_caller(admin, "agents:write")
        agents = gateway.gateway.agents
        agent = await agents.register(wide, profile("a@agents.example", ["tokens:read"]))
        with pytest.raises(ScopeExceeded):
            await agents.update(
                narrow, agent.agent_id, {"capabilities": ["tokens:read", "tokens:write"]}
            )
        assert await agents.get(wide, agent.agent_id) == agent
        assert not await gateway.trail(admin, AuditAction.AGENT_UPDATED)
        # What it has already is not given, and what other servers understand is not ours to guard.
        kept = await agents.update(
            narrow, agent.agent_id, {"capabilities": ["tokens:read", "billing:write"]}
        )
        assert kept.capabilities == ("tokens:read", "billing:write")

    async def test_an_agent_does_not_widen_itself(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin, ["agents:write"])
        call = await gateway.as_caller(worker)
        with pytest.raises(ScopeExceeded):
            await gateway.gateway.agents.update(
                call, UUID(worker.client_id), {"capabilities": ["agents:write", "tokens:write"]}
            )
        assert (await gateway.agent(worker)).capabilities == ("agents:write",)


def _past(act: str) -> str:
    return {"suspend": "suspended", "reactivate": "reactivated"}.get(act, "decommissioned")
