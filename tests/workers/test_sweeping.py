"""What has ended by itself is forgotten: revocations in an hour, idempotency keys in a day."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from db.contract import Storage
from db.records import IDEMPOTENCY_SPAN, IdempotencyKey
from db.settings import StorageSettings
from db.work import JobName, Work
from tests.contract.cast import ACME, GLOBEX, MICROSECOND, NOW, new_revocation, put
from tests.db.catalog import session
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.workers.harness import perform

_LEEWAY = timedelta(hours=1)


async def sweep(storage: Storage, settings: StorageSettings) -> Work:
    return await perform(storage, settings, JobName.SWEEP_REVOCATIONS, NOW)


async def test_revocations_go_an_hour_after_their_tokens(
    storage: Storage, settings: StorageSettings
) -> None:
    over = new_revocation(expires_at=NOW - _LEEWAY - MICROSECOND)
    kept = new_revocation(expires_at=NOW - _LEEWAY)
    for tenant in (ACME, GLOBEX):
        await put(storage, tenant, over, kept)

    ended = await sweep(storage, settings)

    assert ended.report == {"seen": 2, "changed": 2, "failures": {}}
    for tenant in (ACME, GLOBEX):
        contains = storage.read(tenant).revocations.contains
        assert not await contains(over.jti)
        assert await contains(kept.jti)
    assert (await sweep(storage, settings)).report == {"seen": 2, "changed": 0, "failures": {}}


async def test_idempotency_keys_go_when_they_may_be_used_again(
    storage: Storage, settings: StorageSettings
) -> None:
    over, live = (
        IdempotencyKey("acme", uuid4(), "0" * 64, {"id": 1}, created_at)
        for created_at in (NOW - IDEMPOTENCY_SPAN, NOW - IDEMPOTENCY_SPAN + MICROSECOND)
    )
    async with storage.registry_unit() as unit:
        for record in (over, live):
            assert await unit.idempotency.claim(record) is None

    assert (await sweep(storage, settings)).report == {"seen": 2, "changed": 1, "failures": {}}

    earlier = over.created_at
    assert await storage.registry.idempotency.get("acme", over.key, earlier) is None
    assert await storage.registry.idempotency.get("acme", live.key, earlier) == live


async def test_a_tenant_whose_table_is_locked_is_reported_and_the_rest_is_done(
    database: Database,
) -> None:
    settings = settings_of(database)
    over = new_revocation(expires_at=NOW - 2 * _LEEWAY)
    async with opened(settings) as storage, session(database.owner_url) as connection:
        for tenant in (ACME, GLOBEX):
            await put(storage, tenant, over)
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            await transactional.exec_driver_sql("LOCK TABLE acme_token_revocations IN SHARE MODE")
            ended = await sweep(storage, settings)

        assert ended.report is not None
        assert ended.report["changed"] == 1
        failures = ended.report["failures"]
        assert isinstance(failures, dict)
        assert list(failures) == ["acme"]
        assert await storage.read(ACME).revocations.contains(over.jti)
        assert not await storage.read(GLOBEX).revocations.contains(over.jti)
