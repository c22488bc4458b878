"""An agent's status: how it may change, and what a change cuts off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import (
    AgentIdPError,
    InvalidTransition,
    NotFound,
    Unauthenticated,
)
from db.records import Agent, AgentStatus, AuditAction, CredentialStatus
from gateway.services.agents import AgentService
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


def _past(act: str) -> str:
    return {"suspend": "suspended", "reactivate": "reactivated"}.get(act, "decommissioned")
