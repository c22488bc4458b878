"""A tenant is alone: every method is tried from a second tenant with the first one's ids.

The methods are found by reading the contract, so that one without a probe here fails the suite.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import pytest

from db.contract import Storage, TenantReader, Trail, UnitOfWork
from db.cuts import LEAST_ID, CutKind
from db.errors import InvalidCursor, NotFound
from db.filters import AuditEventFilter, CredentialFilter
from db.pages import Page, PageRequest
from db.records import Agent, AuditEvent, Credential, CredentialStatus, Revocation, Standing
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    new_revocation,
    put,
    whole_agent,
    whole_event,
)
from tests.contract.paging import EVERYTHING, items


@dataclass(frozen=True)
class Theirs:
    """What acme has, and globex, who knows all of it, tries."""

    storage: Storage
    agent: Agent
    credential: Credential
    event: AuditEvent
    revocation: Revocation

    @property
    def mine(self) -> TenantReader:
        return self.storage.read(GLOBEX)

    async def everything(self) -> object:
        """All that can be read of acme."""
        reader = self.storage.read(ACME)
        return (
            await items(reader.agents.page),
            await items(reader.credentials.page),
            await items(lambda request: reader.audit.page(request, NOW)),
            await reader.agents.by_email(self.agent.email),
            await reader.revocations.standing(
                self.revocation.jti, self.agent.agent_id, self.credential.credential_id
            ),
        )


@pytest.fixture
async def theirs(storage: Storage) -> Theirs:
    agent = whole_agent()
    credential = new_credential(agent.agent_id, label="theirs")
    event = whole_event(agent_id=agent.agent_id)
    revocation = new_revocation()
    await put(storage, ACME, agent, credential, event, revocation)
    ending = new_credential(agent.agent_id, expires_at=after(1))
    await put(storage, ACME, new_agent(), ending, new_event())
    own = new_agent()
    await put(storage, GLOBEX, own, new_credential(own.agent_id), new_event(agent_id=own.agent_id))
    return Theirs(storage, agent, credential, event, revocation)


Probe = Callable[[Theirs], Awaitable[None]]
PROBES: dict[str, Probe] = {}


def probe(method: str) -> Callable[[Probe], Probe]:
    def note(act: Probe) -> Probe:
        assert method not in PROBES
        PROBES[method] = act
        return act

    return note


def methods(side: type) -> Iterator[str]:
    """`agents.get` and so on, of each store that a protocol of the contract names."""
    for noun, member in vars(side).items():
        if isinstance(member, property):
            store: type[Any] = get_type_hints(member.fget)["return"]
            for name in vars(store):
                if not name.startswith("_"):
                    yield f"{side.__name__}.{noun}.{name}"


METHODS = [*methods(TenantReader), *methods(UnitOfWork), "Trail.append", "Trail.used"]


def test_every_method_of_the_contract_has_a_probe() -> None:
    assert len(METHODS) > 20
    assert {name for name in vars(Trail) if not name.startswith("_")} == {"append", "used"}
    assert sorted(PROBES) == sorted(METHODS)


@pytest.mark.parametrize("method", METHODS)
async def test_from_another_tenant_nothing_is_known_and_nothing_can_be_changed(
    theirs: Theirs, method: str
) -> None:
    before = await theirs.everything()
    await PROBES[method](theirs)
    assert await theirs.everything() == before


async def refused(act: Callable[[PageRequest], Awaitable[object]], cursor: str) -> None:
    for request in (PageRequest(after=cursor), PageRequest(last=5, before=cursor)):
        with pytest.raises(InvalidCursor):
            await act(request)


@probe("TenantReader.agents.get")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.agents.get(theirs.agent.agent_id) is None


@probe("TenantReader.agents.get_many")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.agents.get_many([theirs.agent.agent_id]) == {}


@probe("TenantReader.agents.by_email")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.agents.by_email(theirs.agent.email) is None


@probe("TenantReader.agents.page")
async def _(theirs: Theirs) -> None:
    page = await theirs.mine.agents.page(EVERYTHING)
    assert len(page.items) == 1
    assert theirs.agent.agent_id not in {agent.agent_id for agent in page.items}
    cursor = (await theirs.storage.read(ACME).agents.page(EVERYTHING)).cursors[0]
    await refused(theirs.mine.agents.page, cursor)


@probe("TenantReader.agents.count")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.agents.count() == 1


@probe("TenantReader.credentials.get")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.credentials.get(theirs.credential.credential_id) is None


@probe("TenantReader.credentials.of_client")
async def _(theirs: Theirs) -> None:
    assert list(await theirs.mine.credentials.of_client(theirs.agent.agent_id, NOW)) == []


@probe("TenantReader.credentials.get_many")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.credentials.get_many([theirs.credential.credential_id]) == {}


@probe("TenantReader.credentials.login")
async def _(theirs: Theirs) -> None:
    assert await theirs.storage.read(ACME).credentials.login(theirs.agent.agent_id, NOW)
    assert await theirs.mine.credentials.login(theirs.agent.agent_id, NOW) is None


@probe("TenantReader.credentials.ended")
async def _(theirs: Theirs) -> None:
    assert len(await theirs.storage.read(ACME).credentials.ended(after(1), 9)) == 1
    assert list(await theirs.mine.credentials.ended(after(1), 9)) == []


@probe("TenantReader.credentials.page")
async def _(theirs: Theirs) -> None:
    filter = CredentialFilter(client_id=theirs.agent.agent_id)
    assert await theirs.mine.credentials.page(EVERYTHING, filter) == Page()
    assert len(await items(theirs.mine.credentials.page)) == 1
    reader = theirs.storage.read(ACME).credentials
    for each in (CredentialFilter(), filter):
        cursor = (await reader.page(EVERYTHING, each)).cursors[0]
        await refused(partial(theirs.mine.credentials.page, filter=each), cursor)


@probe("TenantReader.credentials.pages")
async def _(theirs: Theirs) -> None:
    client_id = theirs.agent.agent_id
    assert await theirs.mine.credentials.pages([client_id], EVERYTHING) == {client_id: Page()}
    pages = await theirs.storage.read(ACME).credentials.pages([client_id], EVERYTHING)
    await refused(
        lambda request: theirs.mine.credentials.pages([client_id], request),
        pages[client_id].cursors[0],
    )


@probe("TenantReader.credentials.count")
async def _(theirs: Theirs) -> None:
    filter = CredentialFilter(client_id=theirs.agent.agent_id)
    assert await theirs.mine.credentials.count(filter) == 0
    assert await theirs.mine.credentials.count() == 1


@probe("TenantReader.audit.get")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.audit.get(theirs.event.event_id, NOW) is None


@probe("TenantReader.audit.page")
async def _(theirs: Theirs) -> None:
    filter = AuditEventFilter(agent_id=theirs.agent.agent_id)
    assert await theirs.mine.audit.page(EVERYTHING, NOW, filter) == Page()
    assert len(await items(lambda request: theirs.mine.audit.page(request, NOW))) == 1
    reader = theirs.storage.read(ACME).audit
    for each in (AuditEventFilter(), filter):
        cursor = (await reader.page(EVERYTHING, NOW, each)).cursors[0]
        await refused(partial(theirs.mine.audit.page, since=NOW, filter=each), cursor)


@probe("TenantReader.audit.pages")
async def _(theirs: Theirs) -> None:
    agent_id = theirs.agent.agent_id
    assert await theirs.mine.audit.pages([agent_id], EVERYTHING, NOW) == {agent_id: Page()}
    pages = await theirs.storage.read(ACME).audit.pages([agent_id], EVERYTHING, NOW)
    await refused(
        lambda request: theirs.mine.audit.pages([agent_id], request, NOW),
        pages[agent_id].cursors[0],
    )


@probe("TenantReader.audit.count")
async def _(theirs: Theirs) -> None:
    filter = AuditEventFilter(agent_id=theirs.agent.agent_id)
    assert await theirs.mine.audit.count(NOW, filter) == 0
    assert await theirs.mine.audit.count(NOW) == 1


@probe("TenantReader.revocations.contains")
async def _(theirs: Theirs) -> None:
    assert not await theirs.mine.revocations.contains(theirs.revocation.jti)


@probe("TenantReader.revocations.get")
async def _(theirs: Theirs) -> None:
    assert await theirs.mine.revocations.get(theirs.revocation.jti) is None


@probe("TenantReader.revocations.cuts")
async def _(theirs: Theirs) -> None:
    for kind in CutKind:
        # `whole_agent` has a generation and acme a revoked token: they are cuts there.
        assert not await theirs.mine.revocations.cuts(kind, NOW, None, LEAST_ID, 100)


@probe("TenantReader.revocations.recent_cuts")
async def _(theirs: Theirs) -> None:
    assert await theirs.storage.read(ACME).revocations.recent_cuts(NOW, NOW, 100)
    assert await theirs.mine.revocations.recent_cuts(NOW, NOW, 100) == []


@probe("TenantReader.revocations.standing")
async def _(theirs: Theirs) -> None:
    jti, credential_id = theirs.revocation.jti, theirs.credential.credential_id
    assert await theirs.mine.revocations.standing(jti, theirs.agent.agent_id, credential_id) is None
    own = (await items(theirs.mine.agents.page))[0]
    assert await theirs.mine.revocations.standing(jti, own.agent_id, credential_id) == Standing(
        revoked=False, agent_status=own.status, token_generation=0, credential=None
    )


@probe("TenantReader.revocations.batch")
async def _(theirs: Theirs) -> None:
    assert list(await theirs.mine.revocations.batch(UUID(int=0), 10)) == []


@probe("UnitOfWork.agents.add")
async def _(theirs: Theirs) -> None:
    own = new_agent(agent_id=theirs.agent.agent_id, email=theirs.agent.email)
    await put(theirs.storage, GLOBEX, own)
    assert await theirs.mine.agents.get(own.agent_id) == own


@probe("UnitOfWork.agents.get")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert await unit.agents.get(theirs.agent.agent_id) is None


@probe("UnitOfWork.agents.share")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert await unit.agents.share(theirs.agent.agent_id) is None


@probe("UnitOfWork.agents.save")
async def _(theirs: Theirs) -> None:
    with pytest.raises(NotFound):
        async with theirs.storage.unit(GLOBEX) as unit:
            await unit.agents.save(replace(theirs.agent, owner="globex"))
    assert await theirs.mine.agents.count() == 1


@probe("UnitOfWork.credentials.add")
async def _(theirs: Theirs) -> None:
    with pytest.raises(NotFound):
        await put(theirs.storage, GLOBEX, new_credential(theirs.agent.agent_id))
    own = (await items(theirs.mine.agents.page))[0]
    same_id = new_credential(own.agent_id, credential_id=theirs.credential.credential_id)
    await put(theirs.storage, GLOBEX, same_id)
    assert await theirs.mine.credentials.get(same_id.credential_id) == same_id


@probe("UnitOfWork.credentials.get")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert await unit.credentials.get(theirs.credential.credential_id) is None


@probe("UnitOfWork.credentials.of_client")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert list(await unit.credentials.of_client(theirs.agent.agent_id, NOW)) == []


@probe("UnitOfWork.credentials.save")
async def _(theirs: Theirs) -> None:
    with pytest.raises(NotFound):
        async with theirs.storage.unit(GLOBEX) as unit:
            await unit.credentials.save(
                replace(theirs.credential, status=CredentialStatus.REVOKED, revoked_at=NOW)
            )
    assert await theirs.mine.credentials.count() == 1


@probe("UnitOfWork.credentials.rehash")
async def _(theirs: Theirs) -> None:
    was = theirs.credential.secret_hash
    async with theirs.storage.unit(GLOBEX) as unit:
        identifier = theirs.credential.credential_id
        assert await unit.credentials.rehash(identifier, was, "mine", "beef") is False
    [own] = await items(theirs.mine.credentials.page)
    assert own.secret_hash == was


@probe("UnitOfWork.credentials.used")
async def _(theirs: Theirs) -> None:
    uses = {theirs.credential.credential_id: NOW}
    async with theirs.storage.unit(GLOBEX) as unit:
        assert list(await unit.credentials.used(uses)) == [theirs.credential.credential_id]
    [own] = await items(theirs.mine.credentials.page)
    assert own.last_used_at is None


@probe("UnitOfWork.credentials.revoke_all")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert list(await unit.credentials.revoke_all(theirs.agent.agent_id, after(1))) == []
    active = CredentialFilter(status=(CredentialStatus.ACTIVE,))
    assert await theirs.mine.credentials.count(active) == 1


@probe("UnitOfWork.audit.append")
async def _(theirs: Theirs) -> None:
    own = replace(theirs.event, agent_id=uuid4(), metadata={"tenant": "globex"})
    await put(theirs.storage, GLOBEX, own)
    assert await theirs.mine.audit.get(own.event_id, NOW) == own


@probe("UnitOfWork.revocations.standing")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        found = await unit.revocations.standing(
            theirs.revocation.jti, theirs.agent.agent_id, theirs.credential.credential_id
        )
    assert found is None


@probe("UnitOfWork.revocations.add")
async def _(theirs: Theirs) -> None:
    async with theirs.storage.unit(GLOBEX) as unit:
        assert await unit.revocations.add(replace(theirs.revocation, expires_at=after(1))) is True
    assert await theirs.mine.revocations.contains(theirs.revocation.jti)


@probe("Trail.append")
async def _(theirs: Theirs) -> None:
    own = replace(theirs.event, agent_id=uuid4(), metadata={"tenant": "globex"})
    await theirs.storage.trail.append(GLOBEX, own)
    assert await theirs.mine.audit.get(own.event_id, NOW) == own


@probe("Trail.used")
async def _(theirs: Theirs) -> None:
    [own] = await items(theirs.mine.credentials.page)
    theirs.storage.trail.used(GLOBEX, theirs.credential, NOW)
    theirs.storage.trail.used(GLOBEX, own, NOW)
    await theirs.storage.close()
    assert await theirs.mine.credentials.get(own.credential_id) == replace(own, last_used_at=NOW)
