"""The trail: every action exactly when it should be there, and no older than it may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from db.errors import AgentIdPError, InvalidCursor
from db.filters import AuditEventFilter, Span
from db.pages import PageRequest
from db.records import AuditAction, AuditEvent, AuditOutcome
from gateway.auth.principal import Anonymous
from gateway.services.audit import AuditService
from gateway.services.call import Call
from tests.db.postgres import execute
from tests.gateway import (
    Client,
    ManualClock,
    RunningGateway,
    but_for_uses,
    memory_settings,
    postgres_settings,
    profile,
    running,
)
from tests.servers.databases import Database

DAY = 86_400


async def test_each_of_the_twelve_actions_is_written_when_it_happens_and_only_then(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    call = await gateway.as_caller(admin)
    agents, credentials, tokens = (
        gateway.gateway.agents,
        gateway.gateway.credentials,
        gateway.gateway.tokens,
    )
    written = ["agent.created", "credential.generated", "token.issued"]
    assert await gateway.actions(admin) == written

    async def adds(*actions: str) -> None:
        written.extend(actions)
        assert await gateway.actions(admin) == written

    agent = await agents.register(call, profile("worker@agents.example", ["a:b"]))
    await adds("agent.created")
    await agents.update(call, agent.agent_id, {"version": "1.0.1"})
    await adds("agent.updated")
    fresh = await credentials.generate(call, agent.agent_id)
    await adds("credential.generated")
    fresh = await credentials.rotate(call, fresh.credential.credential_id)
    await adds("credential.rotated")
    worker = Client("acme", str(agent.agent_id), fresh.secret)
    token = await gateway.token(worker)
    await adds("token.issued")
    await tokens.introspect(call, token)
    await adds("token.introspected")
    await tokens.revoke(call, token)
    await adds("token.revoked")
    await credentials.revoke(call, fresh.credential.credential_id)
    await adds("credential.revoked")
    with pytest.raises(AssertionError, match="invalid_client"):
        await gateway.token(worker)
    await adds("auth.failed")
    await agents.suspend(call, agent.agent_id)
    await adds("agent.suspended")
    await agents.reactivate(call, agent.agent_id)
    await adds("agent.reactivated")
    await credentials.generate(call, agent.agent_id)
    await adds("credential.generated")
    await agents.decommission(call, agent.agent_id)
    await adds("agent.decommissioned", "credential.revoked")
    assert len(set(written)) == 12

    # Reading leaves no line.
    request = PageRequest()
    await agents.get(call, agent.agent_id)
    await credentials.get(call, fresh.credential.credential_id)
    await gateway.gateway.audit.page(call, request, AuditEventFilter())
    await adds()
    # Every success is one, and everything that the caller did is under its name.
    for event in await gateway.trail(admin):
        failed = event.action is AuditAction.AUTH_FAILED
        assert event.outcome is (AuditOutcome.FAILURE if failed else AuditOutcome.SUCCESS)
        mine = event.action not in (AuditAction.TOKEN_ISSUED, AuditAction.AUTH_FAILED)
        assert not mine or str(event.agent_id) == admin.client_id


class TestWithoutItsEvent:
    """What cannot be written down does not happen: the event is part of the change."""

    async def test_no_change_is_made(
        self, on_postgres: RunningGateway, empty_database: Database
    ) -> None:
        gateway = on_postgres
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        suspended = await gateway.client_of(admin, email="suspended@agents.example")
        call = await gateway.as_caller(admin)
        agents, credentials = gateway.gateway.agents, gateway.gateway.credentials
        worker_id, suspended_id = UUID(worker.client_id), UUID(suspended.client_id)
        await agents.suspend(call, suspended_id)
        token = await gateway.token(worker)
        reader = gateway.gateway.storage.read(admin.prefix)
        [credential] = await reader.credentials.of_client(worker_id, call.now)

        async def everything() -> object:
            return (
                await gateway.agent(worker),
                await gateway.agent(suspended),
                await reader.agents.count(),
                but_for_uses((await reader.credentials.page(PageRequest(first=100))).items),
                (await gateway.gateway.tokens.introspect(call, token)).active,
            )

        before = await everything()
        role = empty_database.app_role
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "register": lambda: agents.register(call, profile("new@agents.example", ["a:b"])),
            "update": lambda: agents.update(call, worker_id, {"owner": "new"}),
            "suspend": lambda: agents.suspend(call, worker_id),
            "reactivate": lambda: agents.reactivate(call, suspended_id),
            "decommission": lambda: agents.decommission(call, worker_id),
            "generate": lambda: credentials.generate(call, worker_id),
            "rotate": lambda: credentials.rotate(call, credential.credential_id),
            "revoke": lambda: credentials.revoke(call, credential.credential_id),
            "revoke a token": lambda: gateway.gateway.tokens.revoke(call, token),
            "introspect": lambda: gateway.gateway.tokens.introspect(call, token),
        }
        trail = await gateway.trail(admin)
        await execute(empty_database, f"REVOKE INSERT ON acme_audit_events FROM {role}")
        for name, act in acts.items():
            with pytest.raises(AgentIdPError):
                await act()
            assert await reader.agents.count() == 3, name
        await execute(empty_database, f"GRANT INSERT ON acme_audit_events TO {role}")
        assert await gateway.trail(admin) == trail
        assert await everything() == before

    async def test_no_token_is_issued_and_no_login_refused(
        self, on_postgres: RunningGateway, empty_database: Database
    ) -> None:
        """Neither answer may be given while nobody could ever see that it was."""
        gateway = on_postgres
        admin = await gateway.onboard()
        role = empty_database.app_role
        await execute(empty_database, f"REVOKE INSERT ON acme_audit_events FROM {role}")
        for secret in (admin.secret, "wrong"):
            answer = await gateway.client.post(
                "/t/acme/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(admin.client_id, secret),
            )
            assert answer.status_code in (500, 503)
            assert answer.json()["error"] in ("server_error", "temporarily_unavailable")
            assert "access_token" not in answer.text
        assert len(await gateway.trail(admin)) == 2


class TestRetention:
    """What is older than the window is not there, whether or not it has been purged."""

    async def read(self, gateway: RunningGateway, call: Call) -> list[AuditEvent]:
        service: AuditService = gateway.gateway.audit
        found = await service.page(call, PageRequest(first=100), AuditEventFilter())
        assert await service.count(call, AuditEventFilter()) == len(found.items)
        for event in found.items:
            assert await service.get(call, event.event_id) == event
        return list(found.items)

    async def test_an_event_is_there_to_the_microsecond_of_its_end(
        self, empty_database: Database, redis_url: str
    ) -> None:
        for settings in (
            memory_settings(audit_retention_days=1),
            postgres_settings(empty_database, redis_url, audit_retention_days=1),
        ):
            async with running(settings) as gateway:
                admin = await gateway.onboard()
                caller = await gateway.as_caller(admin)
                first = await gateway.trail(admin)
                gateway.clock.advance(DAY)
                at_the_end = gateway.call(caller.principal)
                assert await self.read(gateway, at_the_end) == first[::-1]
                gateway.clock.advance(0.000_001)
                after = gateway.call(caller.principal)
                assert await self.read(gateway, after) == []
                for event in first:
                    assert await gateway.gateway.audit.get(after, event.event_id) is None
                pages = await gateway.gateway.audit.pages(
                    after, [UUID(admin.client_id)], PageRequest(), AuditEventFilter()
                )
                assert not pages[UUID(admin.client_id)].items
                # Hidden, not gone.
                assert await gateway.trail(admin) == first

    async def test_a_tenant_may_have_a_window_of_its_own(self, gateway: RunningGateway) -> None:
        admin, other = await gateway.onboard(), await gateway.onboard("globex")
        async with gateway.gateway.storage.registry_unit() as unit:
            tenant = await unit.tenants.get("acme")
            assert tenant is not None
            await unit.tenants.save(replace(tenant, retention_days=3))
        gateway.clock.advance(3 * DAY + 1)
        short, long = await gateway.as_caller(admin), await gateway.as_caller(other)
        assert [e.action for e in await self.read(gateway, short)] == [AuditAction.TOKEN_ISSUED]
        assert len(await self.read(gateway, long)) == 3

    async def test_a_filter_does_not_reach_behind_the_window(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        async with gateway.gateway.storage.registry_unit() as unit:
            tenant = await unit.tenants.get("acme")
            assert tenant is not None
            await unit.tenants.save(replace(tenant, retention_days=1))
        gateway.clock.advance(2 * DAY)
        call = await gateway.as_caller(admin)
        asked = AuditEventFilter(timestamp=Span(gte=call.now - timedelta(days=36_500)))
        found = await gateway.gateway.audit.page(call, PageRequest(), asked)
        assert [event.action for event in found.items] == [AuditAction.TOKEN_ISSUED]
        assert await gateway.gateway.audit.count(call, asked) == 1


async def test_another_tenant_s_event_is_not_there(gateway: RunningGateway) -> None:
    admin, other = await gateway.onboard(), await gateway.onboard("globex")
    call = await gateway.as_caller(admin)
    audit = gateway.gateway.audit
    for event in await gateway.trail(other):
        assert await audit.get(call, event.event_id) is None
    assert await audit.get(call, uuid4()) is None
    theirs = await audit.page(
        await gateway.as_caller(other), PageRequest(first=1), AuditEventFilter()
    )
    with pytest.raises(InvalidCursor):
        await audit.page(call, PageRequest(after=theirs.cursors[0]), AuditEventFilter())


class TestWhatComesFromOutside:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("curl/8.5", "curl/8.5"),
            ("x" * 1_000_000, "x" * 512),
            ("a\r\nb\x00c\x1b[31m", "a\ufffd\ufffdb\ufffdc\ufffd[31m"),
            ("\ud800é", "\ufffdé"),
            ("", ""),
        ],
        ids=lambda value: ascii(value)[:20],
    )
    async def test_a_user_agent_is_kept_bounded_and_printable(
        self, gateway: RunningGateway, sent: str, kept: str
    ) -> None:
        admin = await gateway.onboard()
        caller = await gateway.as_caller(admin)
        call = Call.make(caller.principal, caller.now, "192.0.2.7", sent, "test")
        await gateway.gateway.agents.update(call, UUID(admin.client_id), {"name": "x"})
        [event] = await gateway.trail(admin, AuditAction.AGENT_UPDATED)
        assert (event.user_agent, event.ip_address) == (kept, "192.0.2.7")

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [("", "unknown"), ("fe80::1%eth0", "fe80::1%eth0"), ("x" * 100, "x" * 64)],
    )
    def test_an_address_is_kept_bounded(self, sent: str, kept: str) -> None:
        assert Call.make(Anonymous(), ManualClock().now, sent, "", "test").ip_address == kept
