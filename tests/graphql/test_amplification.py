"""One request is not many: whatever is dear is counted by the fields that run, not by requests.

What a document may hold at all is bounded first, before anything of it runs; what it then runs is
held to the same budgets as requests that come one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.auth.attempts import OF_CLIENT
from gateway.auth.secrets import new_secret
from gateway.graphql.limits import MAX_MUTATIONS
from tests.gateway import memory_settings, running
from tests.graphql.asking import RESPONSE_JSON, Asking
from tests.services import logins

TOO_COMPLEX = {"QUERY_TOO_COMPLEX"}


@pytest.fixture
async def counted() -> AsyncIterator[tuple[Asking, logins.Counting]]:
    """The administrator of `acme`, and how many hashes were made in whoever's name."""
    hasher = logins.Counting()
    async with running(hasher=hasher) as started:
        admin = await started.onboard("acme")
        yield Asking(started, admin, await started.token(admin)), hasher


def guess(asking: Asking, secret: str) -> str:
    return (
        f'issueToken(input: {{tenant: "acme", clientId: "{asking.admin.client_id}", '
        f'clientSecret: "{secret}"}}) {{ __typename }}'
    )


async def dear(asking: Asking) -> str:
    """The two fields that cost a hash each."""
    data = await asking.data("{ viewer { credentials { nodes { credentialId } } } }")
    [credential] = data["viewer"]["credentials"]["nodes"]
    return (
        f'rotateCredential(input: {{credentialId: "{credential["credentialId"]}"}}) '
        "{ __typename }"
    )


@pytest.mark.parametrize("number", [MAX_MUTATIONS + 1, 200])
@pytest.mark.parametrize("what", ["guesses", "rotations"])
@pytest.mark.parametrize("how", ["aliases", "spreads"])
async def test_a_document_with_too_many_of_them_runs_none(
    counted: tuple[Asking, logins.Counting], what: str, how: str, number: int
) -> None:
    asking, hasher = counted
    field = guess(asking, new_secret()) if what == "guesses" else await dear(asking)
    document = "mutation { " + " ".join(f"a{n}: {field}" for n in range(number)) + " }"
    if how == "spreads":
        parts = [f"fragment F{n} on Mutation {{ a{n}: {field} }}" for n in range(number)]
        spreads = " ".join(f"...F{n}" for n in range(number))
        document = f"mutation {{ {spreads} }} {' '.join(parts)}"
    before, trail = hasher.runs, await asking.running.trail(asking.admin)
    answer = await asking.post({"query": document}, accept=RESPONSE_JSON)
    assert answer.status_code == 400
    assert {each["extensions"]["code"] for each in answer.json()["errors"]} == TOO_COMPLEX
    assert hasher.runs == before
    assert await asking.running.trail(asking.admin) == trail
    assert await asking.running.token(asking.admin)


async def test_a_batch_of_requests_is_none(counted: tuple[Asking, logins.Counting]) -> None:
    asking, hasher = counted
    before = hasher.runs
    one = {"query": f"mutation {{ {guess(asking, new_secret())} }}"}
    answer = await asking.post([one] * 200, accept=RESPONSE_JSON)
    assert answer.status_code == 400
    assert hasher.runs == before


async def test_guesses_in_one_document_are_as_many_failures(
    counted: tuple[Asking, logins.Counting],
) -> None:
    """No more of them are looked at than if they came one by one."""
    asking, hasher = counted
    before = hasher.runs
    codes: Counter[str] = Counter()
    for _ in range(20):
        guesses = " ".join(f"a{n}: {guess(asking, new_secret())}" for n in range(MAX_MUTATIONS))
        body = await asking.nobody.ask(f"mutation {{ {guesses} }}")
        codes.update(each["extensions"]["code"] for each in body.get("errors", []))
        codes.update(each["__typename"] for each in (body["data"] or {}).values() if each)
    assert set(codes) == {"InvalidClient", "THROTTLED"}
    assert codes["InvalidClient"] == OF_CLIENT
    assert hasher.runs - before == OF_CLIENT


async def test_tokens_in_one_document_are_as_many_of_the_client_s_share() -> None:
    limit = 4
    async with running(memory_settings(rate_limit_per_minute=limit)) as started:
        asking = Asking(started, await started.onboard("acme"))
        mine = guess(asking, asking.admin.secret)
        fields = " ".join(f"a{n}: {mine}" for n in range(limit))
        data = await asking.data(f"mutation {{ {fields} }}")
        assert [each["__typename"] for each in data.values()] == ["TokenIssued"] * limit
        assert await asking.code(f"mutation {{ {mine} }}") == "THROTTLED"
        trail = await asking.running.actions(asking.admin)
        assert trail.count("token.issued") == limit


@pytest.mark.parametrize(
    ("document", "codes"),
    [
        ("{ viewer { " + "credentials { nodes { agent { " * 16 + "id" + " } } }" * 16 + " } }",
         TOO_COMPLEX),
        ("{ " + "__typename " * 10_000 + "}", TOO_COMPLEX),
        ("{ __typename " + "@skip(if: false) " * 10_000 + "}", TOO_COMPLEX),
        ("{ __typename " + "@skip(if: false) " * 60 + "}", TOO_COMPLEX),
        ("{ " + "a: __typename " * 200 + "}", TOO_COMPLEX),
        ("{ " + "viewer { " * 5000, {"GRAPHQL_PARSE_FAILED", *TOO_COMPLEX}),
    ],
    ids=["deep", "tokens", "ten thousand directives", "directives", "aliases", "unclosed"],
)  # fmt: skip
async def test_a_document_that_is_too_much_is_refused_before_it_is_looked_at(
    asking: Asking, document: str, codes: set[str]
) -> None:
    answer = await asking.post({"query": document}, accept=RESPONSE_JSON)
    assert answer.status_code == 400
    assert set(answer.json()) == {"errors"}
    assert {each["extensions"]["code"] for each in answer.json()["errors"]} <= codes


@pytest.mark.parametrize("content_type", [
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain",
])  # fmt: skip
async def test_a_form_of_another_page_changes_nothing(
    counted: tuple[Asking, logins.Counting], content_type: str
) -> None:
    """Browsers send these from any page without asking; so none of them is a request here."""
    asking, hasher = counted
    before = hasher.runs
    content = b"query=mutation{" + guess(asking, asking.admin.secret).encode() + b"}"
    answer = await asking.post(content=content, content_type=content_type)
    assert answer.status_code == 415
    answer = await asking.running.client.get(
        "/graphql", params={"query": f"mutation {{ {guess(asking, asking.admin.secret)} }}"}
    )
    assert answer.status_code == 405
    assert hasher.runs == before
