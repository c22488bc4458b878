"""Tokens: what the audit log learns, and that a revocation holds whatever the cache knows."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis

from db.errors import InvalidClient, Unavailable
from db.records import NIL_AGENT, AuditAction, AuditOutcome, Severity
from gateway.auth.clients import ClientSecret
from gateway.auth.principal import Anonymous
from gateway.auth.secrets import new_secret
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey


async def log_in(gateway: RunningGateway, slug: str, client_id: str, secret: str) -> None:
    tenant = await gateway.gateway.authenticator.active_tenant(slug, gateway.clock.now)
    proof = ClientSecret(client_id, secret)
    await gateway.gateway.clients.authenticate(gateway.call(Anonymous()), tenant, proof)


def jti_of(token: str) -> UUID:
    return UUID(jwt.decode(token, options={"verify_signature": False})["jti"])


class TestFailedLogin:
    async def test_a_known_agent_s_is_under_its_name_with_the_reason(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        with pytest.raises(InvalidClient):
            await log_in(gateway, "acme", admin.client_id, "wrong-canary")
        [event] = await gateway.trail(admin, AuditAction.AUTH_FAILED)
        assert str(event.agent_id) == admin.client_id
        assert (event.outcome, event.severity) == (AuditOutcome.FAILURE, Severity.WARNING)
        assert event.metadata == {"reason": "wrong_secret"}
        assert (event.ip_address, event.user_agent) == ("192.0.2.1", "the suite")
        assert "canary" not in repr(event)

    async def test_an_unknown_client_s_id_is_kept_when_it_is_one(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        presented = str(uuid4())
        for spelling in (presented, presented.upper()):
            with pytest.raises(InvalidClient):
                await log_in(gateway, "acme", spelling, "x")
            event = (await gateway.trail(admin, AuditAction.AUTH_FAILED))[-1]
            assert event.agent_id == NIL_AGENT
            assert event.metadata == {"reason": "unknown_client", "clientId": presented}

    @pytest.mark.parametrize(
        "pasted",
        [
            "{secret}",
            "admin@acme.example",
            "x" * 5000,
            "{{{uuid}}}",
            "urn:uuid:{uuid}",
            "\ud800",
            "é\x00",
            "",
        ],
        ids=ascii,
    )
    async def test_what_was_pasted_into_the_wrong_box_is_not_kept(
        self, gateway: RunningGateway, pasted: str
    ) -> None:
        """People paste secrets there: its length and a digest must do to recognise it."""
        admin = await gateway.onboard()
        presented = pasted.format(secret=admin.secret, uuid=uuid4())
        with pytest.raises(InvalidClient):
            await log_in(gateway, "acme", presented, new_secret())
        [event] = await gateway.trail(admin, AuditAction.AUTH_FAILED)
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
        assert event.agent_id == NIL_AGENT
        assert event.metadata == {
            "reason": "unknown_client",
            "clientIdLength": len(presented),
            "clientIdDigest": digest[:16],
        }
        assert not presented or presented not in repr(event)

    async def test_of_an_unknown_tenant_it_is_written_nowhere(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        before = await gateway.actions(admin)
        with pytest.raises(InvalidClient):
            await log_in(gateway, "nobody", admin.client_id, admin.secret)
        assert await gateway.actions(admin) == before


class TestRevocationAndItsCache:
    """Redis refuses fast; that it knows nothing proves nothing."""

    async def live(self, gateway: RunningGateway, client: Client, token: str) -> bool:
        call = gateway.call((await gateway.as_caller(client)).principal)
        return (await gateway.gateway.tokens.introspect(call, token)).active

    async def test_a_hit_refuses(self, on_postgres: RunningGateway, redis: Redis) -> None:
        admin = await on_postgres.onboard()
        token, other = await on_postgres.token(admin), await on_postgres.token(admin)
        await redis.set(f"{{acme}}:revoked:{jti_of(token)}", "1")
        assert not await self.live(on_postgres, admin, token)
        assert await self.live(on_postgres, admin, other)

    async def test_a_revocation_is_published_until_the_token_would_have_ended(
        self, on_postgres: RunningGateway, redis: Redis
    ) -> None:
        admin = await on_postgres.onboard()
        token = await on_postgres.token(admin)
        await on_postgres.gateway.tokens.revoke(await on_postgres.as_caller(admin), token)
        left = await redis.ttl(f"{{acme}}:revoked:{jti_of(token)}")
        # The clock of the test started with the server's and stands still.
        assert 3600 - 60 < left <= 3600 + 60

    async def test_every_cut_holds_when_the_cache_has_been_emptied(
        self, on_postgres: RunningGateway, redis: Redis
    ) -> None:
        """Of a token, of a credential, of an agent."""
        gateway = on_postgres
        admin = await gateway.onboard()
        call = await gateway.as_caller(admin)
        clients = [
            await gateway.client_of(admin, email=f"{name}@agents.example")
            for name in ("token", "credential", "agent", "untouched")
        ]
        tokens = [await gateway.token(client) for client in clients]
        await gateway.gateway.tokens.revoke(call, tokens[0])
        reader = gateway.gateway.storage.read(admin.prefix).credentials
        [kept] = await reader.of_client(UUID(clients[1].client_id), call.now)
        await gateway.gateway.credentials.revoke(call, kept.credential_id)
        await gateway.gateway.agents.suspend(call, UUID(clients[2].client_id))
        assert await redis.dbsize() == 3
        for _ in range(2):
            live = [await self.live(gateway, admin, token) for token in tokens]
            assert live == [False, False, False, True]
            await redis.flushdb()

    async def test_without_the_cache_everything_holds(self, empty_database: Database) -> None:
        """It stops and starts under a gateway that runs on."""
        with temporary_place() as room:
            home = room / "valkey"
            home.mkdir(mode=0o700)
            server = Valkey(home)
            server.start()
            try:
                async with running(postgres_settings(empty_database, server.url())) as gateway:
                    admin = await gateway.onboard()
                    before, during = await gateway.token(admin), await gateway.token(admin)
                    live = await gateway.token(admin)
                    call = await gateway.as_caller(admin)
                    await gateway.gateway.tokens.revoke(call, before)
                    assert (await gateway.client.get("/health/ready")).json()["cache"] == "ready"
                    server.kill()
                    with pytest.raises(Unavailable):
                        await gateway.gateway.tokens.revoke(call, during)
                    ready = await gateway.client.get("/health/ready")
                    assert ready.status_code == 200
                    assert ready.json()["cache"] == "unavailable"
                    tokens = {before: False, during: False, live: True}
                    for token, expected in tokens.items():
                        assert await self.live(gateway, admin, token) is expected
                    server.start()
                    for token, expected in tokens.items():
                        assert await self.live(gateway, admin, token) is expected
            finally:
                server.stop()

    async def test_keys_of_one_tenant_say_nothing_of_another(
        self, on_postgres: RunningGateway, redis: Redis
    ) -> None:
        admin = await on_postgres.onboard()
        token = await on_postgres.token(admin)
        for key in (f"{{globex}}:revoked:{jti_of(token)}", f"revoked:{jti_of(token)}"):
            await redis.set(key, "1")
        assert await self.live(on_postgres, admin, token)
