"""What a client proves itself by in `issueToken`, and whom it may name as the resource."""

from __future__ import annotations

from typing import Any

import pytest

from db.records import AuditAction
from tests.gateway import PUBLIC_URL
from tests.graphql.asking import Asking
from tests.oauth.asking import Asking as OAuth
from tests.oauth.signing import Signer, enrolled

ISSUER = f"{PUBLIC_URL}/t/acme"
API = "https://api.example.com/"


async def signer_of(asking: Asking) -> Signer:
    return await enrolled(OAuth(asking.running, asking.admin))


async def issue(asking: Asking, **said: object) -> dict[str, Any]:
    payload: dict[str, Any] = await asking.nobody.change("issueToken", {"tenant": "acme", **said})
    return payload


async def audience(asking: Asking, payload: dict[str, Any]) -> object:
    found = await asking.change("introspectToken", {"token": payload["accessToken"]})
    return found["audience"]


async def test_an_assertion_takes_the_place_of_the_secret_once(stored: Asking) -> None:
    signer = await signer_of(stored)
    assertion = signer.assertion()
    assert (await issue(stored, clientAssertion=assertion))["__typename"] == "TokenIssued"
    named = await issue(stored, clientId=signer.client_id, clientAssertion=signer.assertion())
    assert named["__typename"] == "TokenIssued"
    before = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
    assert await issue(stored, clientAssertion=assertion) == {
        "__typename": "InvalidClient",
        "message": "client authentication failed",
        "code": "INVALID_CLIENT",
        "path": None,
    }
    [told] = await stored.running.trail(stored.admin, AuditAction.AUTH_FAILED)
    assert told.metadata == {"reason": "replayed_assertion"}
    assert await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED) == before


@pytest.mark.parametrize("assertion", ["", "x", "a.b.c", "\x00", "é", "x" * 10_000])
async def test_what_is_no_assertion_is_a_failed_authentication(
    asking: Asking, assertion: str
) -> None:
    assert (await issue(asking, clientAssertion=assertion))["__typename"] == "InvalidClient"
    [told] = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
    assert told.metadata["reason"] == "malformed_assertion"


async def test_an_assertion_of_another_client_id_is_a_failed_authentication(
    asking: Asking,
) -> None:
    signer = await signer_of(asking)
    payload = await issue(asking, clientId="x", clientAssertion=signer.assertion())
    assert payload["__typename"] == "InvalidClient"


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({}, "clientSecret"),
        ({"clientId": True}, "clientSecret"),
        ({"clientId": True, "clientSecret": None, "clientAssertion": None}, "clientSecret"),
        ({"clientSecret": True}, "clientId"),
        ({"clientSecret": True, "clientId": None}, "clientId"),
        ({"clientSecret": True, "clientAssertion": True}, "clientAssertion"),
        ({"clientId": True, "clientSecret": True, "clientAssertion": True}, "clientAssertion"),
        ({"clientId": True, "clientSecret": True, "clientAssertion": "x"}, "clientAssertion"),
    ],
    ids=str,
)
async def test_there_is_exactly_one_proof(
    asking: Asking, said: dict[str, object], path: str
) -> None:
    """As for OAuth's invalid_request: nobody was looked at, so nobody was refused."""
    signer = await signer_of(asking)
    assertion = signer.assertion()
    real = {
        "clientId": signer.client_id,
        "clientSecret": asking.admin.secret,
        "clientAssertion": assertion,
    }
    given = {name: real[name] if value is True else value for name, value in said.items()}
    before = await asking.running.trail(asking.admin)
    payload = await issue(asking, **given)
    assert (payload["__typename"], payload["code"], payload["path"]) == (
        "InvalidInput", "INVALID_INPUT", [path],
    )  # fmt: skip
    assert await asking.running.trail(asking.admin) == before
    # The assertion was not used up by it.
    assert (await issue(asking, clientAssertion=assertion))["__typename"] == "TokenIssued"


async def test_a_resource_may_be_one_or_several(asking: Asking) -> None:
    proof = {"clientId": asking.admin.client_id, "clientSecret": asking.admin.secret}
    refused = await issue(asking, **proof, resource=[ISSUER, API])
    assert refused["__typename"] == "InvalidTarget"
    await asking.operator.change("updateTenant", {"slug": "acme", "resourceServers": [API]})
    for resource, expected in (
        (API, [API]),
        ([API], [API]),
        ([API, ISSUER, API], [API, ISSUER]),
        ([], [ISSUER]),
        (None, [ISSUER]),
    ):
        payload = await issue(asking, **proof, resource=resource)
        assert await audience(asking, payload) == expected
