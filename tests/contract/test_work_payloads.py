"""What is laid beside a row of work: it is there for the job, and for nobody who reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from db.contract import Storage
from db.records import JSONObject, SigningKeyStatus
from db.registry import RegistryReader
from db.work import JobName, claimed, finished
from tests.contract.cast import (
    AWKWARD,
    NOW,
    after,
    new_idempotency_key,
    new_key,
    new_operator_event,
    new_row,
    put_rows,
    seal,
    unsealed,
    whole_row,
)
from tests.contract.paging import EVERYTHING

KEY = "provision_tenant:acme"
CANARY = "$2b$12$what-nobody-may-read"
PAYLOAD: JSONObject = {"hash": CANARY, AWKWARD: [None, 1.5, {"deep": [AWKWARD]}], "n": 2**53 - 1}


async def test_a_payload_is_laid_beside_its_row_until_it_is_taken_away(storage: Storage) -> None:
    row = new_row(JobName.PROVISION_TENANT, "acme")
    async with storage.registry_unit() as unit:
        await unit.work.add(row)
        assert await unit.work.unseal(KEY) is None
        await unit.work.seal(KEY, PAYLOAD)
        assert await unit.work.unseal(KEY) == PAYLOAD
    assert await unsealed(storage, KEY) == PAYLOAD

    claim = claimed(row, "w", NOW)
    assert claim is not None
    async with storage.registry_unit() as unit:
        await unit.work.save(claim)
        await unit.work.save(finished(claim, NOW, {}, None))
    assert await unsealed(storage, KEY) == PAYLOAD

    await seal(storage, KEY, {})
    assert await unsealed(storage, KEY) == {}
    await seal(storage, KEY, None)
    assert await unsealed(storage, KEY) is None


async def test_a_payload_is_nobody_elses_to_change(storage: Storage) -> None:
    mine: JSONObject = {"a": {"b": [1]}}
    await put_rows(storage, new_row(JobName.PROVISION_TENANT, "acme"))
    await seal(storage, KEY, mine)
    mine["a"] = "changed"
    read = await unsealed(storage, KEY)
    assert read == {"a": {"b": [1]}}
    read["a"] = "changed"
    assert await unsealed(storage, KEY) == {"a": {"b": [1]}}


def readers() -> Iterator[str]:
    """`tenants.get` and so on: every method by which the registry is read."""
    for noun, member in vars(RegistryReader).items():
        if isinstance(member, property):
            reader: type[Any] = get_type_hints(member.fget)["return"]
            yield from (f"{noun}.{name}" for name in vars(reader) if not name.startswith("_"))


async def test_no_reader_shows_a_payload(storage: Storage) -> None:
    """Whatever is laid there is found in nothing that can be read."""
    rows = [whole_row(), new_row(JobName.REMOVE_TENANT, "acme")]
    await put_rows(storage, *rows)
    for row in rows:
        await seal(storage, row.key, {"hash": CANARY, "deep": [{CANARY: CANARY}]})
    known, key = new_idempotency_key(), new_key(status=SigningKeyStatus.RETIRED)
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(new_operator_event())
        await unit.signing_keys.add(key)
        await unit.idempotency.claim(known)
        held = [await unit.work.get(row.key) for row in rows]
    registry = storage.registry
    due = await registry.work.due(after(3600), 100)
    read = {
        "tenants.get": await registry.tenants.get("acme"),
        "tenants.page": await registry.tenants.page(EVERYTHING),
        "tenants.count": await registry.tenants.count(),
        "operator_events.page": await registry.operator_events.page(EVERYTHING),
        "signing_keys.all": await registry.signing_keys.all(),
        "signing_keys.get": await registry.signing_keys.get(key.kid),
        "signing_keys.retired": await registry.signing_keys.retired(NOW),
        "work.get": [await registry.work.get(row.key) for row in rows],
        "work.get_many": await registry.work.get_many([row.key for row in rows]),
        "work.page": await registry.work.page(EVERYTHING),
        "work.count": await registry.work.count(),
        "work.due": due,
        "work.summary": await registry.work.summary(after(3600)),
        "purges.page": await registry.purges.page(EVERYTHING),
        "idempotency.get": await registry.idempotency.get(known.scope, known.key, NOW),
    }
    assert set(read) == set(readers()), "a reader that this test does not know"
    assert len(due) == 2
    for name, found in {**read, "held": held}.items():
        assert CANARY not in repr(found), name
        assert "payload" not in repr(found), name
