"""What a removed tenant leaves behind: everything, in lines that anybody can read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.contract import Storage
from db.errors import Misconfigured, Unavailable
from db.namespace import TenantPrefix
from db.records import Tenant
from db.removal import ExportFile
from tests.contract.cast import (
    ACME,
    AWKWARD,
    GLOBEX,
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    new_revocation,
    new_tenant,
    put,
    whole_agent,
    whole_credential,
    whole_event,
)
from workers import export

NAME = "acme-20260517T120000Z.jsonl"


async def written(
    storage: Storage, directory: Path, tenant: Tenant | None = None, claim: int = 1
) -> ExportFile:
    tenant = tenant or await storage.registry.tenants.get("acme")
    assert tenant is not None
    draft = await export.write(
        storage,
        tenant,
        directory,
        export.file_name(tenant, NOW),
        claim,
        after(5),
        lambda done, total: None,
    )
    await draft.keep()
    return draft.file


def lines(directory: Path, name: str = NAME) -> list[dict[str, Any]]:
    text = (directory / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def of(kind: str, found: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    return [line for line in found if line["type"] == kind]


async def test_every_row_of_every_table_is_in_it_with_all_its_fields_but_the_secret_s_hash(
    storage: Storage, tmp_path: Path
) -> None:
    agent = whole_agent()
    credential = whole_credential(agent.agent_id, secret_hash="$2b$12$never told")
    event, revocation = whole_event(agent_id=agent.agent_id), new_revocation()
    await put(storage, ACME, agent, credential, event, revocation)

    file = await written(storage, tmp_path)

    found = lines(tmp_path)
    assert [line["type"] for line in found] == [
        "tenant", "agent", "credential", "auditEvent", "revocation", "summary",
    ]  # fmt: skip
    [told] = of("tenant", found)
    assert (told["slug"], told["displayName"], told["status"]) == ("acme", "Acme", "active")
    [told] = of("agent", found)
    assert told == {
        "type": "agent",
        "agentId": str(agent.agent_id),
        "email": agent.email,
        "agentType": "screener",
        "version": agent.version,
        "capabilities": list(agent.capabilities),
        "owner": agent.owner,
        "deploymentEnv": "production",
        "status": "active",
        "createdAt": "2026-05-17T12:00:00.123457Z",
        "updatedAt": "2026-05-17T12:00:00.123457Z",
        "name": agent.name,
        "framework": agent.framework,
        "description": agent.description,
        "channels": list(agent.channels),
        "tools": list(agent.tools),
        "permissions": agent.permissions,
        "metadata": agent.metadata,
        "compositeScore": 87,
        "governanceLevel": 4,
        "tokenGeneration": 3,
        "killSwitchedAt": "2026-05-17T12:00:07.123457Z",
        "killSwitchReason": AWKWARD,
    }
    [told] = of("credential", found)
    assert told == {
        "type": "credential",
        "credentialId": str(credential.credential_id),
        "clientId": str(agent.agent_id),
        "status": "revoked",
        "createdAt": "2026-05-17T12:00:00.123457Z",
        "expiresAt": "2026-05-17T13:00:00.123457Z",
        "revokedAt": "2026-05-17T12:01:00.123457Z",
        "label": AWKWARD[:64],
        "lastUsedAt": "2026-05-17T12:00:30.123457Z",
        "publicKey": credential.public_key,
        "replacedBy": str(credential.replaced_by),
    }
    [told] = of("auditEvent", found)
    assert (told["eventId"], told["metadata"]) == (str(event.event_id), event.metadata)
    assert (told["severity"], told["eventType"]) == ("critical", "invoice.paid")
    [told] = of("revocation", found)
    assert told["jti"] == str(revocation.jti)
    whole = (tmp_path / NAME).read_text()
    for never in (credential.secret_hash, credential.secret_tag):
        assert never
        assert never not in whole
    rows = {"tenant": 1, "agent": 1, "credential": 1, "auditEvent": 1, "revocation": 1}
    assert found[-1] == {
        "type": "summary",
        "tenant": "acme",
        "exportedAt": "2026-05-17T12:00:05.123457Z",
        "rows": rows,
    }
    digest = hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest()
    assert file == ExportFile(NAME, digest, rows)


async def test_what_takes_many_pages_is_there_once_and_in_the_order_of_time(
    storage: Storage, tmp_path: Path
) -> None:
    agents = [new_agent(created_at=after(n), updated_at=after(n)) for n in range(203)]
    owner = agents[0].agent_id
    credentials = [new_credential(owner, created_at=after(n)) for n in range(205)]
    events = [new_event(after(n / 100)) for n in range(401)]
    revocations = [new_revocation() for _ in range(7)]
    await put(storage, ACME, *agents, *credentials, *events, *revocations)
    await put(storage, GLOBEX, new_agent(), new_event(), new_revocation())
    told: list[tuple[int, int]] = []
    tenant = await storage.registry.tenants.get("acme")
    assert tenant is not None

    draft = await export.write(
        storage, tenant, tmp_path, NAME, 1, NOW, lambda done, total: told.append((done, total))
    )
    await draft.keep()

    found = lines(tmp_path)
    assert [line["agentId"] for line in of("agent", found)] == [str(a.agent_id) for a in agents]
    assert [line["credentialId"] for line in of("credential", found)] == [
        str(each.credential_id) for each in credentials
    ]
    assert [line["eventId"] for line in of("auditEvent", found)] == [
        str(event.event_id) for event in events
    ]
    assert [line["jti"] for line in of("revocation", found)] == sorted(
        str(each.jti) for each in revocations
    )
    assert draft.file.rows == {
        "tenant": 1, "agent": 203, "credential": 205, "auditEvent": 401, "revocation": 7,
    }  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == (817, 817)


async def test_events_older_than_any_retention_are_in_it(storage: Storage, tmp_path: Path) -> None:
    old = new_event(datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC))
    await put(storage, ACME, old, new_event())
    await written(storage, tmp_path)
    first, second = of("auditEvent", lines(tmp_path))
    assert first["eventId"] == str(old.event_id)
    assert second["timestamp"] > first["timestamp"]


async def test_a_tenant_that_never_got_its_tables_is_a_line_and_a_summary(
    storage: Storage, tmp_path: Path
) -> None:
    tenant = new_tenant("initech")
    file = await written(storage, tmp_path, tenant)
    found = lines(tmp_path, "initech-20260517T120000Z.jsonl")
    assert [line["type"] for line in found] == ["tenant", "summary"]
    assert file.rows == {"tenant": 1}


async def test_nobody_else_can_read_it_whatever_the_umask(storage: Storage, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        file = await written(storage, directory)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / file.name).stat().st_mode) == 0o600


async def test_it_has_no_name_before_it_is_complete(storage: Storage, tmp_path: Path) -> None:
    await put(storage, ACME, *(new_agent() for _ in range(150)))
    tenant = await storage.registry.tenants.get("acme")
    assert tenant is not None
    seen: list[list[str]] = []

    def look(done: int, total: int) -> None:
        seen.append(names(tmp_path))

    draft = await export.write(storage, tenant, tmp_path, NAME, 7, NOW, look)

    assert seen
    assert all(each == [f".{NAME}.7"] for each in seen)
    assert not await export.is_there(tmp_path, draft.file)
    await draft.keep()
    assert names(tmp_path) == [NAME]
    assert await export.is_there(tmp_path, draft.file)
    assert not await export.is_there(tmp_path, replace(draft.file, sha256="0" * 64))


async def test_one_that_fails_half_way_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    await put(storage, ACME, *(new_agent() for _ in range(150)))
    tenant = await storage.registry.tenants.get("acme")
    assert tenant is not None

    def fail(done: int, total: int) -> None:
        if done > 1:
            raise Unavailable("in the middle of it")

    with pytest.raises(Unavailable):
        await export.write(storage, tenant, tmp_path, NAME, 1, NOW, fail)
    assert not names(tmp_path)


async def test_what_killed_workers_left_of_this_tenant_is_cleared_away_and_nothing_else(
    storage: Storage, tmp_path: Path
) -> None:
    kept = [
        "acme-20250101T000000Z.jsonl",
        ".acme_two-20250101T000000Z.jsonl.1",
        ".acme-notes",
        "acme.txt",
    ]
    for name in (*kept, f".{NAME}.1", ".acme-20250101T000000Z.jsonl.12"):
        (tmp_path / name).write_text("of somebody")
    await written(storage, tmp_path, claim=2)
    assert names(tmp_path) == sorted([*kept, NAME])


async def test_a_directory_that_cannot_be_used_is_named_by_its_setting_alone(
    storage: Storage, tmp_path: Path
) -> None:
    file = tmp_path / "a-file"
    file.write_text("in the way")
    with pytest.raises(Misconfigured) as refused:
        await written(storage, file)
    assert "EXPORT_DIRECTORY" in refused.value.message
    assert str(tmp_path) not in refused.value.message
    assert file.read_text() == "in the way"


async def test_a_link_that_somebody_laid_in_its_way_is_not_followed(
    storage: Storage, tmp_path: Path
) -> None:
    directory, elsewhere = tmp_path / "exports", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.write_text("precious")
    (directory / NAME).symlink_to(elsewhere)
    (directory / f".{NAME}.1").symlink_to(elsewhere)
    await written(storage, directory)
    assert elsewhere.read_text() == "precious"
    assert not (directory / NAME).is_symlink()


def test_a_name_tells_the_tenant_and_when_its_removal_was_asked_for() -> None:
    tenant = new_tenant("acme_two")
    local = NOW.astimezone().replace(microsecond=999_999)
    assert export.file_name(tenant, local) == "acme_two-20260517T120000Z.jsonl"
    later = NOW + timedelta(seconds=1)
    assert export.file_name(tenant, later) != export.file_name(tenant, NOW)
    assert TenantPrefix("acme_two").value == tenant.slug
