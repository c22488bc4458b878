"""Too much, and too much that fails: 429, with when to come again, and nobody else kept out."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.auth.attempts import OF_CLIENT
from gateway.auth.secrets import new_secret
from gateway.settings import GatewaySettings
from tests.gateway import Client, running
from tests.oauth.asking import GRANT, Asking, error_of
from tests.oauth.signing import enrolled, present

TOO_MANY = (429, "too_many_requests")
INVALID_CLIENT = (401, "invalid_client")
LIMIT = 20


def wrong(client: Client) -> Client:
    return replace(client, secret=new_secret())


@pytest.fixture
async def limited(backend: GatewaySettings) -> AsyncIterator[Asking]:
    """A gateway with a limit, and the administrator of `acme` who has asked for nothing yet."""
    settings = backend.model_copy(update={"rate_limit_per_minute": LIMIT})
    async with running(settings) as started:
        yield Asking(started, await started.onboard("acme"))


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_a_thousand_wrong_secrets_are_a_few_refusals_and_then_429(
    stored: Asking, endpoint: str
) -> None:
    form = GRANT if endpoint == "token" else {"token": "x"}
    answers = [
        await stored.post(endpoint, form, client=wrong(stored.admin))
        for _ in range(1000 if endpoint == "token" else OF_CLIENT + 9)
    ]
    assert [error_of(each) for each in answers[:OF_CLIENT]] == [INVALID_CLIENT] * OF_CLIENT
    counted = Counter(error_of(each) for each in answers)
    assert set(counted) == {INVALID_CLIENT, TOO_MANY}
    for each in answers:
        if each.status_code == 429:
            assert each.headers["retry-after"] in ("1", "2")
            assert "www-authenticate" not in each.headers
    assert (await stored.running.client.get("/health/live")).status_code == 200


async def test_right_and_wrong_are_told_alike_once_there_were_too_many(asking: Asking) -> None:
    for _ in range(OF_CLIENT):
        await asking.token(GRANT, client=wrong(asking.admin))
    answers = [
        await asking.token(GRANT, client=client) for client in (asking.admin, wrong(asking.admin))
    ]
    assert [error_of(each) for each in answers] == [TOO_MANY] * 2
    assert answers[0].content == answers[1].content
    asking.running.clock.advance(int(answers[0].headers["retry-after"]))
    assert (await asking.token(GRANT)).status_code == 200


async def test_through_graphql_it_is_an_error_with_a_code(asking: Asking) -> None:
    document = "mutation($input: IssueTokenInput!) { issueToken(input: $input) { __typename } }"

    async def issue(client: Client) -> dict[str, object]:
        said = {
            "tenant": "acme", "clientId": client.client_id, "clientSecret": client.secret,
        }  # fmt: skip
        return await asking.running.graphql(document, {"input": said})

    for _ in range(OF_CLIENT):
        body = await issue(wrong(asking.admin))
        assert body["data"] == {"issueToken": {"__typename": "InvalidClient"}}
    answer = await asking.running.client.post(
        "/graphql",
        json={
            "query": document,
            "variables": {
                "input": {
                    "tenant": "acme",
                    "clientId": asking.admin.client_id,
                    "clientSecret": asking.admin.secret,
                }
            },
        },
    )
    assert answer.status_code == 200
    assert answer.headers["retry-after"] == "2"
    [error] = answer.json()["errors"]
    assert error["extensions"].items() >= {"code": "THROTTLED", "retryAfter": 2}.items()
    assert asking.admin.secret not in answer.text


async def test_aliases_are_counted_one_by_one(asking: Asking) -> None:
    """One request with as many guesses as it may hold is as many guesses."""
    fields = "".join(
        f'g{number}: issueToken(input: {{tenant: "acme", clientId: "{asking.admin.client_id}",'
        f' clientSecret: "guess{number}"}}) {{ __typename }}'
        for number in range(8)
    )
    codes: Counter[str] = Counter()
    for _ in range(6):
        body = await asking.running.graphql(f"mutation {{ {fields} }}")
        codes.update(each["extensions"]["code"] for each in body.get("errors", []))
        codes.update(each["__typename"] for each in (body["data"] or {}).values() if each)
    assert codes["THROTTLED"] > 0
    assert codes["InvalidClient"] <= OF_CLIENT


async def test_wrong_assertions_are_counted_and_right_ones_always_looked_at(
    asking: Asking,
) -> None:
    """A signature is cheap to look at, so a right one is never kept out."""
    signer = await enrolled(asking)
    spoiled = [
        await present(asking, signer.assertion()[:-8] + "AAAAAAAA") for _ in range(OF_CLIENT + 3)
    ]
    assert [error_of(each) for each in spoiled] == [INVALID_CLIENT] * OF_CLIENT + [TOO_MANY] * 3
    assert (await present(asking, signer.assertion())).status_code == 200


class TestRateLimit:
    async def test_a_client_has_its_share_of_each_minute(self, limited: Asking) -> None:
        answers = [await limited.token(GRANT) for _ in range(LIMIT)]
        assert [each.status_code for each in answers] == [200] * LIMIT
        refused = await limited.token(GRANT)
        assert error_of(refused) == TOO_MANY
        assert refused.headers["retry-after"] in ("1", "2", "3")

    async def test_asking_and_looking_into_and_revoking_are_of_one_share(
        self, limited: Asking
    ) -> None:
        token = (await limited.token(GRANT)).json()["access_token"]
        for _ in range(LIMIT - 1):
            assert await limited.active(token)
        for answer in (
            await limited.introspect(token),
            await limited.introspect(token, authorization=f"Bearer {token}"),
            await limited.revoke(token),
            await limited.token(GRANT),
        ):
            assert error_of(answer) == TOO_MANY
        query = "mutation($token: String!) { introspectToken(input: {token: $token}) { active } }"
        body = await limited.running.graphql(query, {"token": token}, token)
        assert body["errors"][0]["extensions"]["code"] == "THROTTLED"

    async def test_others_have_theirs(self, limited: Asking) -> None:
        for _ in range(LIMIT):
            await limited.token(GRANT)
        other = await limited.running.onboard("globex")
        assert error_of(await limited.token(GRANT)) == TOO_MANY
        assert (await limited.token(GRANT, slug="globex", client=other)).status_code == 200

    async def test_nobody_can_use_up_what_is_another_s(self, limited: Asking) -> None:
        for _ in range(LIMIT + 5):
            assert error_of(await limited.token(GRANT, client=wrong(limited.admin))) in (
                INVALID_CLIENT,
                TOO_MANY,
            )
        assert (await limited.token(GRANT)).status_code == 200

    async def test_what_was_not_done_is_in_no_trail(self, limited: Asking) -> None:
        for _ in range(LIMIT):
            await limited.token(GRANT)
        before = await limited.running.trail(limited.admin)
        assert error_of(await limited.token(GRANT)) == TOO_MANY
        assert await limited.running.trail(limited.admin) == before

    async def test_none_is_the_default(self, asking: Asking) -> None:
        assert asking.running.gateway.settings.rate_limit_per_minute == 0
        for _ in range(LIMIT * 3):
            assert (await asking.token(GRANT)).status_code == 200
