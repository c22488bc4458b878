"""When something fails: nothing false is said, nothing is told that should not be, and the log
says where it came from under the request's id."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest
from graphql import GraphQLError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from db.errors import MigrationFailed
from gateway.graphql import execution
from gateway.graphql.faults import entry
from tests.gateway import postgres_settings, running
from tests.graphql.asking import JSON, RESPONSE_JSON, Asking, change, profile
from tests.servers.databases import Database
from tests.servers.postgres import Postgres


@pytest.mark.parametrize("accept", [JSON, RESPONSE_JSON])
async def test_an_operation_that_takes_too_long_is_cancelled(
    stored: Asking, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    agent_id = await stored.registered()
    trail = await stored.running.trail(stored.admin)
    body = {
        "query": change("updateAgent"),
        "variables": {"input": {"agentId": agent_id, "owner": "others"}},
    }
    monkeypatch.setattr(execution, "OPERATION_SECONDS", 0.2)
    # The row is not let go, so the mutation waits for it.
    async with stored.running.gateway.storage.unit(stored.admin.prefix) as unit:
        assert await unit.agents.get(UUID(agent_id))
        answer = await asyncio.create_task(stored.post(body, accept=accept))
    monkeypatch.undo()
    assert answer.status_code == 504
    assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
    assert "data" not in answer.json()
    [error] = answer.json()["errors"]
    assert error["extensions"]["code"] == "TIMEOUT"
    assert "cancelled" in error["message"]
    # Nothing of it comes later, and those after it have their turn.
    assert await stored.running.trail(stored.admin) == trail
    for owner in ("a", "b", "c", "d", "e", "f"):
        payload = await stored.change("updateAgent", {"agentId": agent_id, "owner": owner})
        assert payload["__typename"] == "AgentUpdated"


async def test_without_storage_nothing_is_answered_but_that_and_then_as_before(
    mortal_postgres: Postgres, mortal_database: Database, redis_url: str
) -> None:
    async with running(postgres_settings(mortal_database, redis_url)) as started:
        admin = await started.onboard("acme")
        asking = Asking(started, admin, await started.token(admin))
        trail = await started.trail(admin)
        document = "{ __typename viewer { email } }"
        issue = {
            "input": {
                "tenant": "acme", "clientId": admin.client_id, "clientSecret": admin.secret,
            }
        }  # fmt: skip
        mortal_postgres.kill()
        try:
            as_agent = await asking.post({"query": document})
            anonymous = await asking.nobody.post({"query": document})
            public = await asking.nobody.post({"query": change("issueToken"), "variables": issue})
            operator = await asking.operator.post(
                {"query": '{ __typename tenant(slug: "acme") { slug } }'}
            )
        finally:
            mortal_postgres.start()

        # A token cannot be judged: the request goes no further.
        assert as_agent.status_code == 503
        assert int(as_agent.headers["retry-after"]) > 0
        [error] = as_agent.json()["errors"]
        assert error["extensions"]["code"] == "UNAVAILABLE"
        assert set(as_agent.json()) == {"errors"}

        # Without one the document runs, and the fields that need storage say so.
        assert anonymous.json()["data"] is None
        assert anonymous.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        for answer, data in ((operator, {"__typename": "Query", "tenant": None}), (public, None)):
            assert answer.status_code == 200
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["data"] == data
            [error] = answer.json()["errors"]
            assert error["extensions"]["code"] == "UNAVAILABLE"
            assert error["extensions"]["retryAfter"] == int(answer.headers["retry-after"])

        # What was not acknowledged was not done.
        assert await started.trail(admin) == trail
        assert (await asking.data("{ viewer { email } }"))["viewer"] == {
            "email": "admin@acme.example"
        }


FELLED = """
    CREATE FUNCTION fell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$
"""
FELLING = """
    CREATE TRIGGER fell BEFORE INSERT ON acme_agents FOR EACH ROW
    WHEN (NEW.email = 'a2@agents.example') EXECUTE FUNCTION fell()
"""


async def test_a_batch_tells_what_it_did_before_storage_went_away(
    empty_database: Database, redis_url: str
) -> None:
    async with running(postgres_settings(empty_database, redis_url)) as started:
        admin = await started.onboard("acme")
        asking = Asking(started, admin, await started.token(admin))
        # The third agent takes its connection down with it.
        await as_owner(empty_database, FELLED, FELLING)
        inputs = [profile(email=f"a{n}@agents.example") for n in range(4)]
        answer = await asking.post(
            {"query": change("registerAgents"), "variables": {"input": {"agents": inputs}}}
        )
        assert int(answer.headers["retry-after"]) > 0
        body = answer.json()
        results = body["data"]["registerAgents"]["results"]
        assert [each and each["__typename"] for each in results] == [
            "AgentRegistered", "AgentRegistered", None, None,
        ]  # fmt: skip
        assert [(error["path"], error["extensions"]["code"]) for error in body["errors"]] == [
            (["registerAgents", "results", 2], "UNAVAILABLE"),
            (["registerAgents", "results", 3], "UNAVAILABLE"),
        ]
        assert await asking.data("{ agents { totalCount } }") == {"agents": {"totalCount": 3}}


async def as_owner(database: Database, *statements: str) -> None:
    engine = create_async_engine(
        database.owner_url.replace("postgresql://", "postgresql+asyncpg://")
    )
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_what_nobody_foresaw_is_masked_and_logged_with_its_origin(
    empty_database: Database, redis_url: str
) -> None:
    """Tables that are gone are one; the error of the database would name them."""
    async with running(postgres_settings(empty_database, redis_url)) as started:
        admin = await started.onboard("acme")
        asking = Asking(started, admin, await started.token(admin))
        await as_owner(empty_database, "DROP TABLE acme_audit_events CASCADE")
        document = """{
            viewer { email } auditEvents(after: null) { nodes { action } }
            agentByEmail(email: "sk_live_pasted@a.example") { id }
        }"""
        with capture_logs() as logs:
            answer = await asking.post({"query": document}, x_request_id="find-me")
        assert answer.status_code == 200
        [error] = answer.json()["errors"]
        assert error["message"] == "internal error"
        assert error["extensions"] == {"code": "INTERNAL_SERVER_ERROR", "requestId": "find-me"}
        assert "acme_audit_events" not in answer.text
        [fault] = [each for each in logs if each["event"] == "fault"]
        assert fault["log_level"] == "error"
        assert "gateway/services/audit.py" in fault["traceback"]
        told = json.dumps(logs, default=str)
        for hidden in ("sk_live", "SELECT", "viewer {", asking.token or ""):
            assert hidden not in told


def test_the_log_of_a_fault_has_its_kind_and_origin_and_no_message() -> None:
    def fail() -> None:
        try:
            raise KeyError("sk_live_inner")
        except KeyError as inner:
            raise ValueError("sk_live_outer") from inner

    with pytest.raises(ValueError, match="outer") as raised:
        fail()
    with capture_logs() as logs:
        told = entry(GraphQLError("sk_live_said", original_error=raised.value), "id-1")
    assert told["message"] == "internal error"
    [logged] = logs
    assert logged["error"] == "ValueError"
    assert logged["traceback"].count(", in fail") == 2
    assert logged["traceback"].rstrip().endswith("ValueError")
    assert "KeyError\n" in logged["traceback"]
    # The lines of code are the only text that comes along.
    assert "sk_live_said" not in str(logs)
    for value in ("sk_live_inner", "sk_live_outer"):
        assert f"Error: '{value}'" not in logged["traceback"]
        assert f"Error: {value}" not in logged["traceback"]


def test_our_own_faults_say_what_an_operator_must_do_in_the_log_alone() -> None:
    fault = MigrationFailed("revision 0007 did not apply")
    with capture_logs() as logs:
        told = entry(GraphQLError("x", original_error=fault), "id-1")
    assert told["message"] == "internal error"
    assert "MigrationFailed: revision 0007 did not apply" in logs[0]["traceback"]


async def test_an_exchange_is_logged_in_one_line_without_its_document(asking: Asking) -> None:
    with capture_logs() as logs:
        await asking.post({"query": '{ agentByEmail(email: "who@agents.example") { id } }'})
        await asking.post({"query": "{ secretField"})
    assert [(each["event"], each["path"], each["status"]) for each in logs] == [
        ("request", "/graphql", 200),
        ("request", "/graphql", 200),
    ]
    assert "who@agents.example" not in str(logs)
    assert "secretField" not in str(logs)
