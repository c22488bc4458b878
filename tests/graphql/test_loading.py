"""What is asked for one by one is fetched together, and nothing that is not shown is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.gateway import postgres_settings, running
from tests.graphql.asking import Asking, profile
from tests.servers.databases import Database

Sent = list[str]


@pytest.fixture
def sent() -> Iterator[Sent]:
    """Every statement of this process, as it goes out."""
    statements: Sent = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", keep)
    yield statements
    event.remove(Engine, "before_cursor_execute", keep)


@pytest.fixture
async def many(empty_database: Database, redis_url: str, redis: Redis) -> Any:
    """On PostgreSQL, with thirty agents and a credential of each of five."""
    async with running(postgres_settings(empty_database, redis_url)) as started:
        admin = await started.onboard("acme")
        asking = Asking(started, admin, await started.token(admin))
        inputs = [profile(email=f"a{n}@agents.example") for n in range(30)]
        made = await asking.change("registerAgents", {"agents": inputs})
        for each in made["results"][:5]:
            await asking.enabled(each["agent"]["agentId"])
        yield asking


async def statements(asking: Asking, sent: Sent, document: str) -> list[str]:
    """Those of one operation, without what the token's acceptance takes."""
    await asking.data("{ __typename }")
    sent.clear()
    await asking.data("{ __typename }")
    accepting = len(sent)
    sent.clear()
    await asking.data(document)
    return sent[accepting:]


def columns(statement: str) -> set[str]:
    match = re.match(r"SELECT (.*?) FROM", statement)
    assert match, statement
    return {each.strip().rpartition(".")[2].split(" ")[0] for each in match[1].split(",")}


@pytest.mark.parametrize("first", [2, 30])
async def test_pages_within_a_page_take_one_statement_for_each_noun(
    many: Asking, sent: Sent, first: int
) -> None:
    document = f"""{{ agents(first: {first}) {{ nodes {{ email
        credentials(first: 3) {{ nodes {{ status agent {{ email }} }} }}
        auditEvents(first: 3) {{ nodes {{ action agent {{ owner }} }} }}
    }} }} }}"""
    # The list, both nested pages, and the agents behind each of them: however many there are.
    made = await statements(many, sent, document)
    assert len(made) <= 5
    assert len([each for each in made if "credentials" in each]) == 1
    assert len([each for each in made if "audit_events" in each]) == 1


async def test_what_has_replaced_the_credentials_of_a_page_is_one_statement(
    many: Asking, sent: Sent
) -> None:
    listed = await many.data("{ credentials { nodes { credentialId } } }")
    for each in listed["credentials"]["nodes"]:
        input = {"credentialId": each["credentialId"], "overlapSeconds": 60}
        await many.change("rotateCredential", input)
    document = "{ credentials(filter: {replaced: true}) { nodes { replacedBy { label } } } }"
    made = await statements(many, sent, document)
    assert len(listed["credentials"]["nodes"]) == 6
    assert len(made) == 2
    assert columns(made[1]) == {"credential_id", "client_id", "created_at", "label"}


async def test_the_agents_behind_a_page_of_the_trail_are_one_statement(
    many: Asking, sent: Sent
) -> None:
    document = "{ auditEvents(first: 100) { nodes { agentId agent { email } } } }"
    assert len(await statements(many, sent, document)) == 2


async def test_the_agents_behind_many_ids_are_one_statement(many: Asking, sent: Sent) -> None:
    data = await many.data("{ agents(first: 20) { nodes { id } } }")
    listed = ", ".join(f'"{each["id"]}"' for each in data["agents"]["nodes"])
    document = f"{{ nodes(ids: [{listed}]) {{ id ... on Agent {{ email }} }} }}"
    assert len(await statements(many, sent, document)) == 1


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        ("nodes { email }", {"email"}),
        ("edges { cursor node { email status } }", {"email", "status"}),
        ("nodes { email } edges { node { owner } }", {"email", "owner"}),
        ("nodes { id }", set()),
        ("nodes { ...F } edges { node { ... on Node { id } name } }", {"version", "name"}),
        ("nodes { governanceLevel }", {"governance_level"}),
        ("nodes { tools @skip(if: true) }", {"tools"}),
        ("nodes { renamed: email __typename }", {"email"}),
        ("pageInfo { endCursor }", set()),
        ("nodes { credentials { nodes { status } } }", set()),
    ],
)
async def test_a_page_fetches_the_columns_that_are_shown(
    many: Asking, sent: Sent, selection: str, shown: set[str]
) -> None:
    fragment = "fragment F on Agent { version }" if "...F" in selection else ""
    document = f"{{ agents(first: 2) {{ {selection} }} }} {fragment}"
    statement = (await statements(many, sent, document))[0]
    assert columns(statement) - {"agent_id", "created_at"} == shown


async def test_so_do_the_pages_within_it(many: Asking, sent: Sent) -> None:
    document = """{ agents(first: 2) { nodes {
        credentials(first: 1) { nodes { label } } auditEvents(first: 1) { nodes { ipAddress } }
    } } }"""
    made = await statements(many, sent, document)
    [credentials] = [each for each in made if "credentials" in each]
    [events] = [each for each in made if "audit_events" in each]
    assert "secret_hash" not in credentials
    assert "label" in credentials
    assert "user_agent" not in events
    assert "ip_address" in events


async def test_a_count_is_made_where_it_is_shown(many: Asking, sent: Sent) -> None:
    without = await statements(many, sent, "{ agents { nodes { email } } }")
    with_count = await statements(
        many, sent, "{ agents { nodes { email } totalCount totalCountCapped } }"
    )
    assert (len(without), len(with_count)) == (1, 2)
    assert "count" in with_count[1].lower()


async def test_a_mutation_is_not_answered_from_before_the_one_that_preceded_it(
    stored: Asking,
) -> None:
    """What a loader remembers would show the agent as it was."""
    agent_id = await stored.registered()
    await stored.enabled(agent_id)
    document = """mutation($agent: UUID!) {
        first: generateCredential(input: {agentId: $agent}) {
          ... on CredentialGenerated { credential { agent { status owner } } } }
        updateAgent(input: {agentId: $agent, owner: "others"}) { __typename }
        second: generateCredential(input: {agentId: $agent}) {
          ... on CredentialGenerated { credential { agent { status owner } } } }
    }"""
    data = await stored.data(document, {"agent": agent_id})
    assert data["first"]["credential"]["agent"]["owner"] == "the suite"
    assert data["second"]["credential"]["agent"]["owner"] == "others"


async def test_nested_pages_answer_each_agent_its_own(stored: Asking) -> None:
    first = await stored.registered()
    second = await stored.registered(email="other@agents.example")
    for _ in range(3):
        await stored.enabled(first)
    await stored.enabled(second)
    document = """query($first: Int, $after: String) { agents(orderBy: CREATED_AT_ASC) { nodes {
        agentId credentials(first: $first, after: $after, filter: {status: {in: [ACTIVE]}}) {
          totalCount nodes { clientId } pageInfo { hasNextPage endCursor } } } } }"""
    data = await stored.data(document, {"first": 2})
    pages = {each["agentId"]: each["credentials"] for each in data["agents"]["nodes"]}
    assert {agent: page["totalCount"] for agent, page in pages.items()} == {
        stored.admin.client_id: 1, first: 3, second: 1,
    }  # fmt: skip
    for agent, page in pages.items():
        assert {each["clientId"] for each in page["nodes"]} == {agent}
    assert pages[first]["pageInfo"]["hasNextPage"] is True
    rest = """query($agent: UUID!, $after: String) { agent(agentId: $agent) {
        credentials(first: 2, after: $after, filter: {status: {in: [ACTIVE]}}) {
          nodes { clientId } } } }"""
    after = pages[first]["pageInfo"]["endCursor"]
    data = await stored.data(rest, {"agent": first, "after": after})
    assert data["agent"]["credentials"]["nodes"] == [{"clientId": first}]
    # Of another agent's list it is no cursor.
    assert await stored.code(rest, {"agent": second, "after": after}) == "BAD_USER_INPUT"


async def test_one_s_own_page_is_shown_beside_others_that_are_refused(stored: Asking) -> None:
    narrow = await stored.by(stored.admin, "agents:read")
    await stored.registered()
    document = """{ agents { nodes { email } }
        viewer { credentials { nodes { status } } }
        other: agentByEmail(email: "scout@agents.example") { credentials { totalCount } } }"""
    body = await narrow.ask(document)
    assert body["data"]["viewer"] == {"credentials": {"nodes": [{"status": "ACTIVE"}]}}
    assert body["data"]["other"] is None
    [error] = body["errors"]
    assert error["path"] == ["other", "credentials"]
    assert error["extensions"]["code"] == "FORBIDDEN"
