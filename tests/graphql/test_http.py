"""GraphQL over HTTP, case by case: what a request must be, and what it is answered with."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.graphql.asking import JSON, RESPONSE_JSON, Asking, change, profile

TYPENAME = {"query": "{ __typename }"}
LIMIT = 256 * 1024


def refusal(answer: httpx.Response, status: int, code: str = "BAD_REQUEST") -> dict[str, Any]:
    """The one error of a refusal, which has no data."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"errors"}
    [error] = body["errors"]
    assert error["message"]
    assert error["extensions"]["code"] == code
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
    found: dict[str, Any] = error
    return found


async def get(asking: Asking, parameters: Any, **headers: str) -> httpx.Response:
    query = parameters if isinstance(parameters, str) else urlencode(parameters)
    if asking.token:
        headers["authorization"] = f"Bearer {asking.token}"
    return await asking.running.client.get(f"/graphql?{query}", headers=headers)


async def test_a_posted_query_is_answered_and_no_cache_keeps_it(asking: Asking) -> None:
    answer = await asking.post(TYPENAME)
    assert answer.status_code == 200
    assert answer.json() == {"data": {"__typename": "Query"}}
    assert answer.headers["content-type"] == f"{JSON}; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (RESPONSE_JSON, RESPONSE_JSON),
        (f"{RESPONSE_JSON}; charset=utf-8", RESPONSE_JSON),
        (RESPONSE_JSON.upper(), RESPONSE_JSON),
        (f"{RESPONSE_JSON}, {JSON}", RESPONSE_JSON),
        (f"{JSON}, {RESPONSE_JSON}", JSON),
        (f"{RESPONSE_JSON};q=0.8, {JSON};q=0.9", JSON),
        (f"{JSON};q=0.8, {RESPONSE_JSON};q=0.9", RESPONSE_JSON),
        (f"{JSON};q=0, */*", RESPONSE_JSON),
        (f"*/*;q=0.1, {RESPONSE_JSON}", RESPONSE_JSON),
        (f"{RESPONSE_JSON}, {JSON}, text/event-stream, multipart/mixed", RESPONSE_JSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
    ],
)
async def test_the_media_type_is_the_one_asked_for(
    asking: Asking, accept: str, answered: str
) -> None:
    answer = await asking.post(TYPENAME, accept=accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{answered}; charset=utf-8"
    assert "Accept" in answer.headers["vary"]


@pytest.mark.parametrize(
    "accept", ["text/html", "text/*", f"{JSON};q=0", "image/png, text/plain", f"{JSON};q=nan"]
)
async def test_what_cannot_be_answered_in_is_not_acceptable(asking: Asking, accept: str) -> None:
    refusal(await asking.post(TYPENAME, accept=accept), 406)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/graphql", f"{JSON}; charset=latin-1"],
)  # fmt: skip
async def test_anything_but_json_is_an_unsupported_media_type(
    asking: Asking, content_type: str
) -> None:
    """A page of another origin could send the first four without asking."""
    content = json.dumps(TYPENAME).encode()
    refusal(await asking.post(content=content, content_type=content_type), 415)


@pytest.mark.parametrize(
    "content_type", [f"{JSON}; charset=utf-8", f'{JSON};charset="UTF-8"', "Application/JSON"]
)
async def test_json_in_utf_8_may_say_so(asking: Asking, content_type: str) -> None:
    answer = await asking.post(TYPENAME, content_type=content_type)
    assert answer.status_code == 200


@pytest.mark.parametrize("accept", [JSON, RESPONSE_JSON])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"not json",
        b'{"query": "{ __typename }"} more',
        b'\xef\xbb\xbf{"query": "{ __typename }"}',
        b'{"query": "{ __typename \xff}"}',
        b'{"query": "{ __typename }", "variables": {"a": "\\ud800"}}',
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": {"a": 1e999}}',
        b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 5000 + b"}}",
        b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 90_000 + b"]" * 90_000 + b"}}",
        b"null",
        b"1",
        b'"{ __typename }"',
        b'[{"query": "{ __typename }"}]',
        b"{}",
        b'{"query": null}',
        b'{"query": 1}',
        b'{"query": {}}',
        b'{"query": "{ __typename }", "variables": "{}"}',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "operationName": 1}',
        b'{"query": "{ __typename }", "operationName": {}}',
        b'{"query": "{ __typename }", "extensions": "x"}',
        b'{"query": "{ __typename }", "extensions": [1]}',
    ],
)
async def test_what_is_no_request_is_a_bad_one_in_either_media_type(
    asking: Asking, content: bytes, accept: str
) -> None:
    answer = await asking.post(content=content, accept=accept)
    refusal(answer, 400)
    assert answer.headers["content-type"] == f"{accept}; charset=utf-8"


async def test_nulls_and_unknown_members_of_a_request_are_passed_over(asking: Asking) -> None:
    body = TYPENAME | {"variables": None, "operationName": None, "extensions": None, "id": 7}
    assert (await asking.post(body)).json() == {"data": {"__typename": "Query"}}


async def test_a_body_may_fill_the_limit_and_not_pass_it(asking: Asking) -> None:
    content = json.dumps(TYPENAME).encode()
    full = content + b" " * (LIMIT - len(content))
    assert (await asking.post(content=full)).status_code == 200
    answer = await asking.post(content=full + b" ")
    refusal(answer, 413)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_other_methods_are_not_allowed(asking: Asking, method: str) -> None:
    answer = await asking.running.client.request(method, "/graphql", json=TYPENAME)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


async def test_a_query_may_stand_in_the_address(asking: Asking) -> None:
    document = "query One { viewer { email } } query Two($id: ID!) { node(id: $id) { id } }"
    one = await get(asking, {"query": document, "operationName": "One"})
    assert one.json() == {"data": {"viewer": {"email": "admin@acme.example"}}}
    parameters = {"query": document, "operationName": "Two", "variables": '{"id": "x"}'}
    two = await get(asking, parameters | {"extensions": "{}", "other": "passed over"})
    assert two.json() == {"data": {"node": None}}


@pytest.mark.parametrize(
    "query",
    [
        "query=",
        "query=%7B",
        "query=query%20A%7B__typename%7D%20query%20B%7B__typename%7D",
        "query=%7B__typename%7D&operationName=Nope",
        "query=%7B__typename%7D&operationName=",
    ],
)
async def test_a_refused_document_in_the_address_is_refused_as_a_posted_one(
    asking: Asking, query: str
) -> None:
    answer = await get(asking, query, accept=RESPONSE_JSON)
    assert answer.status_code == 400
    assert set(answer.json()) == {"errors"}


@pytest.mark.parametrize(
    "query",
    [
        "variables=%7B%7D",
        "query=%7B__typename%7D&variables=nope",
        "query=%7B__typename%7D&variables=%5B%5D",
        "query=%7B__typename%7D&variables=%22x%22",
        "query=%7B__typename%7D&extensions=1",
        "query=%7B__typename%7D&query=%7B__typename%7D",
        "query=%FF",
        "&".join(f"a{n}=1" for n in range(40)) + "&query=%7B__typename%7D",
    ],
)
async def test_a_malformed_address_is_a_bad_request(asking: Asking, query: str) -> None:
    refusal(await get(asking, query, accept=JSON), 400)


async def test_an_address_beyond_the_limit_is_too_long(asking: Asking) -> None:
    refusal(await get(asking, "query=" + "a" * 32 * 1024), 414)


async def test_a_mutation_is_not_run_by_get(asking: Asking) -> None:
    parameters = {
        "query": change("registerAgent"),
        "variables": json.dumps({"input": profile()}),
    }
    answer = await get(asking, parameters)
    refusal(answer, 405)
    assert answer.headers["allow"] == "POST"
    agents = await asking.data("{ agents { totalCount } }")
    assert agents == {"agents": {"totalCount": 1}}


async def test_a_subscription_is_refused_in_words(asking: Asking) -> None:
    answer = await asking.post({"query": "subscription { auditEvents }"}, accept=RESPONSE_JSON)
    [error, *_] = answer.json()["errors"]
    assert answer.status_code == 400
    assert error["message"] == "The subscription operation is not supported by the schema."


REQUEST_ERRORS = [
    ("{ nope", "GRAPHQL_PARSE_FAILED"),
    ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
    ("fragment A on Agent { id }", "GRAPHQL_VALIDATION_FAILED"),
    ("type Query { a: Int }", "GRAPHQL_VALIDATION_FAILED"),
    ('{ agent(agentId: "nope") { id } }', "BAD_USER_INPUT"),
    ("query($id: UUID!) { agent(agentId: $id) { id } }", "BAD_USER_INPUT"),
    ("query A { __typename } query B { __typename }", "OPERATION_RESOLUTION_FAILURE"),
    ("{ " + "a: __typename " * 60 + "}", "QUERY_TOO_COMPLEX"),
]


@pytest.mark.parametrize(("document", "code"), REQUEST_ERRORS)
async def test_a_request_error_has_no_data_and_a_status_of_its_media_type(
    asking: Asking, document: str, code: str
) -> None:
    plain = await asking.post({"query": document}, accept=JSON)
    own = await asking.post({"query": document}, accept=RESPONSE_JSON)
    assert (plain.status_code, own.status_code) == (200, 400)
    for answer in (plain, own):
        body = answer.json()
        assert set(body) == {"errors"}
        for error in body["errors"]:
            assert error["extensions"]["code"] == code
            assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
            assert "path" not in error


async def test_variables_that_do_not_fit_are_a_request_error_too(asking: Asking) -> None:
    document = "query($id: UUID!) { agent(agentId: $id) { id } }"
    answer = await asking.post(
        {"query": document, "variables": {"id": "nope"}}, accept=RESPONSE_JSON
    )
    refusal(answer, 400, "BAD_USER_INPUT")


async def test_an_error_within_a_run_leaves_the_rest_of_the_data(asking: Asking) -> None:
    document = '{ viewer { email } agentByEmail(email: "nope") { id } }'
    answer = await asking.post({"query": document}, accept=RESPONSE_JSON)
    assert answer.status_code == 200
    body = answer.json()
    assert body["data"] == {"viewer": {"email": "admin@acme.example"}, "agentByEmail": None}
    [error] = body["errors"]
    assert error["path"] == ["agentByEmail"]
    assert error["locations"] == [{"line": 1, "column": 20}]
    assert error["extensions"] == {
        "code": "BAD_USER_INPUT",
        "reason": "INVALID_INPUT",
        "argument": ["email"],
        "requestId": answer.headers["x-request-id"],
    }


@pytest.mark.parametrize("name", ["A", "B"])
async def test_one_of_several_operations_is_run_by_its_name(asking: Asking, name: str) -> None:
    document = "query A { a: __typename } query B { b: __typename }"
    answer = await asking.post({"query": document, "operationName": name})
    assert answer.json() == {"data": {name.lower(): "Query"}}


async def test_a_sound_request_id_comes_back_in_header_and_errors(asking: Asking) -> None:
    answer = await asking.post({"query": "{ nope }"}, x_request_id="trace-7")
    assert answer.headers["x-request-id"] == "trace-7"
    assert answer.json()["errors"][0]["extensions"]["requestId"] == "trace-7"


@pytest.mark.parametrize("path", ["/graphql/", "/graphql"])
async def test_a_slash_at_the_end_makes_no_difference(asking: Asking, path: str) -> None:
    answer = await asking.running.client.post(path, json=TYPENAME)
    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_there_is_nothing_else_below(asking: Asking) -> None:
    answer = await asking.running.client.post("/graphql/more", json=TYPENAME)
    assert answer.status_code == 404
