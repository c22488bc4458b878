"""Scalars and enums: what is accepted, how it is shown, and that it is never repeated in an
error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.graphql.asking import Asking, change, profile

BY_ID = "query($id: UUID!) { agent(agentId: $id) { agentId } }"
SINCE = "query($at: DateTime) { agents(filter: {createdAt: {gte: $at}}) { totalCount } }"


@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_an_id_is_taken_in_its_canonical_form(asking: Asking, case: Any) -> None:
    me = asking.admin.client_id
    assert await asking.data(BY_ID, {"id": case(me)}) == {"agent": {"agentId": me}}
    literal = f'{{ agent(agentId: "{case(me)}") {{ agentId }} }}'
    assert await asking.data(literal) == {"agent": {"agentId": me}}


async def test_and_in_no_other(asking: Asking) -> None:
    me = asking.admin.client_id
    for wrong in (
        me.replace("-", ""), f"{{{me}}}", f"urn:uuid:{me}", me + "\n", f" {me}", me[:-1], "",
        "\x00", "é" * 36, 7, 1.5, True, [me, me], {"id": me},
    ):  # fmt: skip
        error = await asking.error(BY_ID, {"id": wrong})
        assert error["code"] == "BAD_USER_INPUT"
        assert me not in error["message"]
    for literal in ("7", "1.5", "true", "nope", '"nope"', "{a: 1}", '["a", "b"]', "9" * 5000):
        document = f"{{ agent(agentId: {literal}) {{ agentId }} }}"
        body = await asking.ask(document)
        assert {each["extensions"]["code"] for each in body["errors"]} == {"BAD_USER_INPUT"}


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2020-02-29T12:00:00Z", datetime(2020, 2, 29, 12, tzinfo=UTC)),
        ("2020-02-29t12:00:00z", datetime(2020, 2, 29, 12, tzinfo=UTC)),
        ("2020-02-29T12:00:00.5+02:00", datetime(2020, 2, 29, 10, 0, 0, 500_000, UTC)),
        ("2020-02-29T12:00:00.123456789-00:30", datetime(2020, 2, 29, 12, 30, 0, 123_456, UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC)),
    ],
)
async def test_an_instant_is_taken_with_its_offset_and_shown_in_utc(
    asking: Asking, text: str, instant: datetime
) -> None:
    assert (await asking.data(SINCE, {"at": text}))["agents"] == {
        "totalCount": 1 if instant < asking.running.clock.now else 0
    }
    if instant > asking.running.clock.now:
        payload = await asking.change(
            "generateCredential", {"agentId": asking.admin.client_id, "expiresAt": text}
        )
        shown = instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert payload["credential"]["expiresAt"] == shown


async def test_every_instant_is_shown_with_the_same_precision(asking: Asking) -> None:
    plain = (asking.running.clock.now + timedelta(days=1)).replace(microsecond=0)
    elsewhere = plain.astimezone(timezone(timedelta(hours=5, minutes=30)))
    payload = await asking.change(
        "generateCredential",
        {"agentId": asking.admin.client_id, "expiresAt": elsewhere.isoformat()},
    )
    assert payload["credential"]["expiresAt"] == plain.strftime("%Y-%m-%dT%H:%M:%S.000000Z")


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-30T12:00:00Z", "2020-02-29", "2020-02-29T12:00:00", "2020-02-29 12:00:00Z",
        "2020-02-29T12:00Z", "2020-02-29T24:00:00Z", "2020-02-29T12:00:60Z",
        "2020-02-29T12:00:00+25:00", "2020-02-29T12:00:00,5Z", "20200229T120000Z",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z",
        "٢٠٢٠-02-29T12:00:00Z", "", "now", "\x00", "2020-02-29T12:00:00Z\n", 1582977600, True,
        "2020-02-29T12:00:00.0123456789Z",
    ],
)  # fmt: skip
async def test_any_other_text_is_no_instant(asking: Asking, text: object) -> None:
    error = await asking.error(SINCE, {"at": text})
    assert error["code"] == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    "value", ["active", "Active", "REMOVED", "", "ACTIVE ", 1, True, ["ACTIVE", "NOPE"], {}]
)
async def test_an_enum_has_its_names_and_no_others(asking: Asking, value: object) -> None:
    document = """query($status: [AgentStatus!]) {
        agents(filter: {status: {in: $status}}) { totalCount } }"""
    assert await asking.code(document, {"status": value}) == "BAD_USER_INPUT"


PASTED = "sk_live_pasted_in_the_wrong_place"


@pytest.mark.parametrize(
    "document",
    [
        f"{{ {{ {PASTED} }}",
        f'{{ agents "{PASTED}" }}',
        f'{{ agents """{PASTED}""" }}',
        f"{{ agent(agentId: {PASTED}) {{ id }} }}",
        f'{{ agent(agentId: "{PASTED}") {{ id }} }}',
        f"{{ agentByEmail(email: {PASTED}) {{ id }} }}",
        f'{{ agentByEmail(email: ["{PASTED}"]) {{ id }} }}',
        f'{{ agentByEmail(email: {{a: "{PASTED}"}}) {{ id }} }}',
        f'{{ agentByEmail(email: "{PASTED}") {{ id }} }}',
        f'{{ agents(first: "{PASTED}") {{ totalCount }} }}',
        f'{{ agents(after: "{PASTED}") {{ totalCount }} }}',
        f"{{ agents(filter: {{status: {{in: [{PASTED}]}}}}) {{ totalCount }} }}",
        f'{{ agents(filter: {{createdAt: {{gte: "{PASTED}"}}}}) {{ totalCount }} }}',
        f'{{ agents(filter: "{PASTED}") {{ totalCount }} }}',
    ],
)
async def test_what_was_pasted_in_the_wrong_place_is_not_repeated(
    asking: Asking, document: str
) -> None:
    answer = await asking.post({"query": document})
    assert answer.json()["errors"]
    assert PASTED not in answer.text


ISSUE = "mutation($input: IssueTokenInput!) { issueToken(input: $input) { __typename } }"


@pytest.mark.parametrize(
    "variables",
    [
        {"input": PASTED},
        {"input": [PASTED]},
        {"input": {"clientSecret": PASTED}},
        {"input": {"tenant": "acme", "clientId": "x", "clientSecret": [PASTED]}},
        {"input": {"tenant": "acme", "clientId": "x", "clientSecret": {"a": PASTED}}},
        {"input": {"tenant": "acme", "clientId": "x", "clientSecret": PASTED, "more": 1}},
        {"input": {"tenant": PASTED, "clientId": 7, "clientSecret": PASTED}},
        {"input": {"tenant": PASTED, "clientId": PASTED, "clientSecret": PASTED}},
    ],
)
async def test_nor_what_variables_held(asking: Asking, variables: dict[str, Any]) -> None:
    answer = await asking.post({"query": ISSUE, "variables": variables})
    assert answer.status_code == 200
    assert PASTED not in answer.text


async def test_variables_of_other_types_are_told_with_their_place(asking: Asking) -> None:
    document = change("registerAgent")
    for changes, place in (
        ({"capabilities": [1]}, ".capabilities[0]"),
        ({"agentType": "NOPE"}, ".agentType"),
        ({"owner": None}, ".owner"),
        ({"deploymentEnv": 7}, ".deploymentEnv"),
    ):
        error = await asking.error(document, {"input": profile() | changes})
        assert error["code"] == "BAD_USER_INPUT"
        assert place in error["message"]
