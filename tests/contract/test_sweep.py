"""What has ended by itself is swept, and nothing that is still of use."""

from __future__ import annotations

from uuid import uuid4

import pytest

from db.contract import Storage
from db.errors import TenantNotProvisioned
from db.namespace import TenantPrefix
from tests.contract.cast import ACME, GLOBEX, MICROSECOND, NOW, after, new_revocation, put

UNKNOWN = TenantPrefix("nobody")


async def test_revocations_of_tokens_that_have_ended_are_forgotten(storage: Storage) -> None:
    ended = [new_revocation(expires_at=after(-3600)), new_revocation(expires_at=NOW - MICROSECOND)]
    live = [new_revocation(expires_at=NOW), new_revocation(expires_at=after(1))]
    await put(storage, ACME, *ended, *live)
    await put(storage, GLOBEX, *ended)

    assert await storage.upkeep.sweep_revocations(ACME, NOW) == 2

    contains = storage.read(ACME).revocations.contains
    assert [await contains(each.jti) for each in (*ended, *live)] == [False, False, True, True]
    assert await storage.read(GLOBEX).revocations.contains(ended[0].jti)
    assert await storage.upkeep.sweep_revocations(ACME, NOW) == 0


async def test_more_than_one_page_of_revocations_is_swept_whole(storage: Storage) -> None:
    # Most of them end at one instant: a page is continued by the jti as well.
    ended = [new_revocation(expires_at=after(-1)) for _ in range(120)]
    live = new_revocation(expires_at=after(1))
    await put(storage, ACME, live, *ended)

    assert await storage.upkeep.sweep_revocations(ACME, NOW) == 120

    assert await storage.read(ACME).revocations.contains(live.jti)


async def test_a_revocation_is_new_again_once_it_was_forgotten(storage: Storage) -> None:
    ended = new_revocation(jti=uuid4(), expires_at=after(-1))
    await put(storage, ACME, ended)
    await storage.upkeep.sweep_revocations(ACME, NOW)

    async with storage.unit(ACME) as unit:
        assert await unit.revocations.add(ended)


async def test_a_tenant_that_was_never_provisioned_has_nothing_to_sweep(storage: Storage) -> None:
    with pytest.raises(TenantNotProvisioned):
        await storage.upkeep.sweep_revocations(UNKNOWN, NOW)
