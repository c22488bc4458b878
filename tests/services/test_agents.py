"""Agents: registered and changed, by a caller whose token covers what it gives."""

from __future__ import annotations

from uuid import UUID

import pytest

from db.errors import (
    EmailTaken,
    InvalidInput,
    InvalidTransition,
    ScopeExceeded,
)
from db.records import AgentStatus, AgentType, AuditAction
from gateway.services.profiles import AgentChanges, NewAgent
from tests.gateway import RunningGateway, profile


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
        agent = await gateway.gateway.agents.register(call, profile("a@agents.example", ["a:b"]))
        agent = await gateway.gateway.agents.decommission(call, agent.agent_id)
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
