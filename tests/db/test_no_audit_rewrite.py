"""Nothing here ever sends a statement that would change or delete what the trail says.

The triggers and grants that would refuse it are shown elsewhere. This reads the log of a server
that writes down every statement it is sent, by a gateway, by every job of the list, and by a purge
that has something to take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from db.namespace import TenantPrefix
from db.records import AgentStatus, JSONObject
from tests.contract.cast import new_event, new_tenant, put
from tests.db.catalog import session
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database, Databases
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.workers.harness import queue
from workers.jobs import JOBS

ELDER = TenantPrefix("elder")

_ENTRY = "@@@"
_SENT = re.compile(r"LOG:\s+(?:statement|execute [^:]*): (.*)", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAIL = r'(?:ONLY\s+)?(?:"?\w+"?\.)?"?\w*(?:audit|operator)_events\w*"?'
_REWRITES = re.compile(
    rf"\bUPDATE\s+{_TRAIL}|\bDELETE\s+FROM\s+{_TRAIL}|\bMERGE\s+INTO\s+{_TRAIL}"
    rf"|\bTRUNCATE\b(?!\s+ON)[^;]*{_TRAIL}"
    rf"|\bINSERT\s+INTO\s+{_TRAIL}[^;]*\bDO\s+UPDATE\b",
    re.IGNORECASE | re.DOTALL,
)


class Ledger:
    """What a server was sent, since this was made."""

    def __init__(self, server: Postgres) -> None:
        self._log: Path = server.log
        self._start = self._log.stat().st_size

    def sent(self) -> list[str]:
        text = self._log.read_bytes()[self._start :].decode(errors="replace")
        found = (_SENT.match(entry) for entry in text.split(_ENTRY))
        return [match[1].strip() for match in found if match]

    def rewrites(self) -> list[str]:
        return [each for each in self.sent() if _REWRITES.search(_QUOTED.sub("''", each))]


@pytest.fixture(scope="module")
def talkative() -> Iterator[Postgres]:
    """A server of its own, for its log."""
    with temporary_place() as room:
        home = room / "postgres"
        home.mkdir(mode=0o711)
        options = {"log_statement": "all", "log_line_prefix": _ENTRY}
        server = Postgres(home, options=options)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def logged(talkative: Postgres) -> Iterator[Database]:
    databases = Databases(talkative.url(), disposable=True)
    made = databases.create()
    yield made
    databases.drop(made)
    databases.close()


async def live(gateway: RunningGateway, admin: Client) -> None:
    """Some of everything that a tenant's callers and the operator do."""
    services = gateway.gateway
    worker = await gateway.client_of(admin)
    token = await gateway.token(worker)
    auth = (worker.client_id, worker.secret)
    for endpoint in ("introspect", "revoke"):
        answer = await gateway.client.post(
            f"/t/{worker.slug}/oauth2/{endpoint}", data={"token": token}, auth=auth
        )
        assert answer.status_code == 200, answer.text
    refused = await gateway.client.post(
        f"/t/{worker.slug}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(worker.client_id, "wrong"),
    )
    assert refused.status_code == 401

    call = await gateway.as_caller(admin)
    agent_id = UUID(worker.client_id)
    fresh = await services.credentials.generate(
        call, agent_id, expires_at=call.now + timedelta(seconds=30)
    )
    rotated = await services.credentials.rotate(call, fresh.credential.credential_id)
    # One that outlives its agent's others, to come to its own end.
    await services.credentials.generate(
        call, UUID(admin.client_id), expires_at=call.now + timedelta(seconds=30)
    )
    await services.credentials.revoke(call, rotated.credential.credential_id)
    for status in (AgentStatus.SUSPENDED, AgentStatus.ACTIVE, AgentStatus.DECOMMISSIONED):
        await change_status(gateway, call_token=await gateway.token(admin), to=status, id=agent_id)
    shown = await gateway.graphql(
        "{ auditEvents(first: 50) { nodes { action metadata } } }", token=await gateway.token(admin)
    )
    assert len(shown["data"]["auditEvents"]["nodes"]) > 10


async def change_status(
    gateway: RunningGateway, *, call_token: str, to: AgentStatus, id: UUID
) -> None:
    mutation = {
        AgentStatus.SUSPENDED: "suspendAgent",
        AgentStatus.ACTIVE: "reactivateAgent",
        AgentStatus.DECOMMISSIONED: "decommissionAgent",
    }[to]
    answer = await gateway.graphql(
        f"mutation($id: UUID!) {{ {mutation}(input: {{agentId: $id}}) {{ __typename }} }}",
        {"id": str(id)},
        call_token,
    )
    assert "errors" not in answer, answer


async def run_every_job(gateway: RunningGateway) -> dict[str, JSONObject]:
    """Each that is not of one tenant, by the program's own list; what it reports."""
    storage, reports = gateway.gateway.storage, {}
    for job in JOBS.values():
        if job.of_tenant:
            continue
        key = await queue(storage, job.name, gateway.clock.now)
        await gateway.gateway.queue.ring(key)
        ended = await storage.registry.work.get(key)
        assert ended is not None
        assert ended.report is not None, (key, ended.last_error)
        assert ended.report["failures"] == {}, key
        reports[key] = ended.report
    return reports


async def test_no_statement_is_ever_sent_that_would_rewrite_a_trail(
    talkative: Postgres, logged: Database, redis_url: str
) -> None:
    ledger = Ledger(talkative)
    async with running(postgres_settings(logged, redis_url)) as gateway:
        storage, now = gateway.gateway.storage, gateway.clock.now
        long_ago = now - timedelta(days=200)
        await storage.upkeep.provision(ELDER, long_ago)
        async with storage.registry_unit() as unit:
            await unit.tenants.add(new_tenant(str(ELDER)))
        await put(storage, ELDER, new_event(long_ago))
        admin = await gateway.onboard()
        await live(gateway, admin)
        gateway.clock.advance(60)

        reports = await run_every_job(gateway)
        assert await storage.upkeep.ensure_months(ELDER, now + timedelta(days=62))

    for job in ("purge_audit_events", "expire_credentials"):
        assert reports[job]["changed"] != 0, job
    sent = "\n".join(ledger.sent())
    for seen in (
        r'INSERT INTO "?acme_audit_events',
        r'INSERT INTO "?elder_audit_events',
        r"INSERT INTO operator_events",
        r'ATTACH PARTITION "elder_audit_events_y',
        r'DETACH PARTITION "elder_audit_events_y\w+" CONCURRENTLY',
        r'DROP TABLE "elder_audit_events_y',
        r'UPDATE "?acme_agents',
        r"DELETE FROM idempotency_keys",
    ):
        assert re.search(seen, sent), seen
    assert ledger.rewrites() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE acme_audit_events SET user_agent = 'forged'",
        'DELETE FROM "acme_audit_events" WHERE event_id IS NULL',
        "delete from only public.acme_audit_events_y2024m01",
        "TRUNCATE acme_agents, acme_audit_events CASCADE",
        "truncate table acme_audit_events_y2024m01",
        "WITH gone AS (DELETE\n\tFROM acme_audit_events RETURNING 1) SELECT count(*) FROM gone",
        "INSERT INTO acme_audit_events (event_id) VALUES ('019d4657-0000-7000-8000-000000000000')"
        " ON CONFLICT (event_id) DO UPDATE SET user_agent = 'it''s'",
        "MERGE INTO acme_audit_events USING acme_agents ON false WHEN MATCHED THEN DELETE",
        "UPDATE operator_events SET action = 'x'",
    ],
)
async def test_a_statement_that_would_is_seen(
    talkative: Postgres, logged: Database, statement: str
) -> None:
    """Whatever becomes of it: there is no such table here."""
    ledger = Ledger(talkative)
    async with session(logged.owner_url) as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        with pytest.raises(Exception, match="does not exist"):
            await raw.execute(statement)

    assert [" ".join(each.split()) for each in ledger.rewrites()] == [" ".join(statement.split())]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'DELETE FROM acme_audit_events'",
        "SELECT 1 -- TRUNCATE acme_audit_events",
        "CREATE TRIGGER t BEFORE UPDATE OR DELETE ON acme_audit_events EXECUTE FUNCTION f()",
        "CREATE TRIGGER t BEFORE TRUNCATE ON acme_audit_events EXECUTE FUNCTION f()",
        "DELETE FROM acme_token_revocations WHERE jti = ANY ($1)",
        "INSERT INTO acme_audit_events (event_id) SELECT 1 ON CONFLICT DO NOTHING",
    ],
)
def test_what_only_speaks_of_it_is_not_taken_for_one(statement: str) -> None:
    assert not _REWRITES.search(_QUOTED.sub("''", statement))
