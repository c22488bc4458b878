"""No answer without its event: what the trail does not take, the client is not told."""

from __future__ import annotations

from redis.asyncio import Redis
from sqlalchemy import text

from tests.db.catalog import session
from tests.db.postgres import execute
from tests.gateway import postgres_settings, running
from tests.oauth.asking import GRANT, Asking, error_of
from tests.servers.databases import Database


async def test_a_token_whose_event_cannot_be_written_is_not_issued(
    empty_database: Database, redis_url: str, redis: Redis
) -> None:
    async with running(postgres_settings(empty_database, redis_url)) as started:
        asking = Asking(started, await started.onboard("acme"))
        other = await started.onboard("globex")
        token = await started.token(asking.admin)
        prefix = asking.admin.prefix
        written = await started.actions(asking.admin)
        before = await started.trail(other)
        month = prefix.audit_partition(started.clock.now)
        async with session(empty_database.owner_url) as connection:
            bound = await connection.scalar(
                text("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = :month"),
                {"month": month},
            )
        table = f"ALTER TABLE {prefix}_audit_events"
        await execute(empty_database, f"{table} DETACH PARTITION {month}")

        wrong = (asking.admin.client_id, "wrong")
        answers = [
            await asking.token(GRANT),
            await asking.token({**GRANT, "scope": "no:such"}),
            await asking.introspect(token),
            await started.client.post("/t/acme/oauth2/token", data=GRANT, auth=wrong),
        ]
        for answer in answers:
            assert error_of(answer) == (503, "temporarily_unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert "access_token" not in answer.text
            assert "active" not in answer.json()
        assert await started.trail(asking.admin) == []

        # A neighbour has noticed nothing.
        await started.token(other)
        assert len(await started.trail(other)) == len(before) + 1

        await execute(empty_database, f"{table} ATTACH PARTITION {month} {bound}")
        assert (await asking.token(GRANT)).status_code == 200
        assert await asking.active(token)
        assert await started.actions(asking.admin) == [
            *written,
            "token.issued",
            "token.introspected",
        ]
