"""When a store cannot be reached nothing false is said; what nobody foresaw says nothing at all."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from db.records import Tenant, TenantStatus
from gateway.auth.tenants import MOMENT
from tests.gateway import postgres_settings, running
from tests.oauth.asking import GRANT, Asking, error_of
from tests.servers.databases import Database
from tests.servers.postgres import Postgres


async def test_without_storage_every_question_is_answered_503_and_then_as_before(
    mortal_postgres: Postgres, mortal_database: Database, redis_url: str, redis: Redis
) -> None:
    settings = postgres_settings(mortal_database, redis_url)
    async with running(settings) as started:
        asking = Asking(started, await started.onboard("acme"))
        token = await started.token(asking.admin)
        revoked = await started.token(asking.admin)
        await asking.revoke(revoked)
        before = await started.trail(asking.admin)

        mortal_postgres.kill()
        try:
            answers = [
                await asking.token(GRANT),
                await asking.introspect(token),
                await asking.introspect(revoked),
                await asking.revoke(token),
                await asking.revoke(token, authorization=f"Bearer {token}"),
                await started.client.get("/t/acme/.well-known/jwks.json"),
                await started.client.get("/.well-known/oauth-authorization-server/t/acme"),
            ]
            ready = await started.client.get("/health/ready")
            live = await started.client.get("/health/live")
        finally:
            mortal_postgres.start()

        for answer in answers:
            assert error_of(answer) == (503, "temporarily_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "unavailable",
            "storage": "unavailable",
            "cache": "ready",
            "revocations": "cold",
        }
        assert (live.status_code, live.json()) == (200, {"status": "ok"})

        assert (await started.client.get("/health/ready")).status_code == 200
        # What was answered 503 was not done.
        assert await started.trail(asking.admin) == before
        assert await asking.active(token)
        assert not await asking.active(revoked)
        assert (await asking.token(GRANT)).status_code == 200


async def test_without_storage_a_warm_cache_decides_and_only_what_it_can_prove(
    mortal_postgres: Postgres, mortal_database: Database, redis_url: str, redis: Redis
) -> None:
    """What it has heard of is refused. Of what it has not heard of a warm one proves that there is
    nothing to hear, for as long as the tenant's row is proven too; beyond that nobody is
    accepted."""
    async with running(postgres_settings(mortal_database, redis_url)) as started:
        asking = Asking(started, await started.onboard("acme"))
        live, revoked = await started.token(asking.admin), await started.token(asking.admin)
        await started.warm_up()
        assert (await asking.revoke(revoked)).status_code == 200

        async def shown(token: str) -> httpx.Response:
            return await started.client.post(
                "/graphql",
                json={"query": "{ __typename }"},
                headers={"authorization": f"Bearer {token}"},
            )

        assert (await shown(live)).status_code == 200
        mortal_postgres.kill()
        try:
            answers = [await shown(token) for token in (revoked, live, revoked)]
            started.clock.advance(2 * MOMENT.total_seconds())
            late = [await shown(token) for token in (live, revoked)]
        finally:
            mortal_postgres.start()
        assert [answer.status_code for answer in answers] == [401, 200, 401]
        # A row that is not proven any more is read before anything is said of either.
        assert [answer.status_code for answer in late] == [503, 503]
        for answer in late:
            assert int(answer.headers["retry-after"]) > 0
        assert [(await shown(token)).status_code for token in (live, revoked)] == [200, 401]


async def test_an_unforeseen_fault_is_masked_and_logged_under_the_request_s_id(
    asking: Asking,
) -> None:
    """A tenant whose row says active and whose tables were never made is one."""
    storage = asking.running.gateway.storage
    now = asking.running.clock.now
    async with storage.registry_unit() as unit:
        await unit.tenants.add(Tenant("hollow", "Hollow", TenantStatus.ACTIVE, now, now))
    hollow = replace(asking.admin, slug="hollow")
    with capture_logs() as logs:
        answer = await asking.token(GRANT, slug="hollow", client=hollow)
    assert error_of(answer) == (500, "server_error")
    assert "hollow" not in answer.text
    [fault] = [entry for entry in logs if entry["log_level"] == "error"]
    assert fault["error"] == "TenantNotProvisioned"
    assert "gateway/auth/clients.py" in fault["traceback"]
    [request] = [entry for entry in logs if entry["event"] == "request"]
    assert (request["status"], request["path"]) == (500, "/t/hollow/oauth2/token")


@pytest.mark.parametrize("sent", ["abc-123", "a" * 128, "A.b_c-9"])
async def test_a_sound_request_id_is_kept(asking: Asking, sent: str) -> None:
    answer = await asking.running.client.get(
        "/t/acme/.well-known/jwks.json", headers={"x-request-id": sent}
    )
    assert answer.headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "a" * 129, 'x"', "x;y", "é"])
async def test_any_other_is_replaced(asking: Asking, sent: str) -> None:
    answer = await asking.running.client.get(
        "/t/acme/.well-known/jwks.json", headers=[(b"x-request-id", sent.encode())]
    )
    assert UUID(answer.headers["x-request-id"]).version == 4
