"""Signing keys through GraphQL: the operator sees what is public of them, and rotates them."""

from __future__ import annotations

import json

import pytest

from gateway.services.keys import OVERLAP
from tests.auth import forging
from tests.gateway import memory_settings, running
from tests.graphql.asking import SIGNING_KEY, Asking

KEYS = f"{{ signingKeys {{ {SIGNING_KEY} }} }}"


async def shown(asking: Asking) -> list[dict[str, object]]:
    keys: list[dict[str, object]] = (await asking.operator.data(KEYS))["signingKeys"]
    return keys


async def test_a_rotation_in_three_mutations(stored: Asking) -> None:
    operator, clock = stored.operator, stored.running.clock
    [old] = await shown(stored)
    assert (old["algorithm"], old["status"]) == ("ES256", "SIGNING")

    payload = await operator.change("publishSigningKey", {"algorithm": "EDDSA"})
    assert payload["__typename"] == "SigningKeyPublished"
    new = payload["signingKey"]
    assert (new["algorithm"], new["status"]) == ("EDDSA", "PUBLISHED")
    assert new["createdAt"] == new["changedAt"] < new["readyAt"]
    assert await shown(stored) == [old, new]

    named = {"kid": new["kid"]}
    payload = await operator.change("activateSigningKey", named)
    assert (payload["__typename"], payload["code"], payload["path"]) == (
        "InvalidTransition", "INVALID_TRANSITION", ["kid"],
    )  # fmt: skip
    clock.advance(OVERLAP.total_seconds())
    payload = await operator.change("activateSigningKey", named)
    assert payload["__typename"] == "SigningKeyActivated"
    assert payload["signingKey"]["status"] == "SIGNING"
    payload = await operator.change("activateSigningKey", named | {"immediately": True})
    assert payload["__typename"] == "InvalidTransition"
    assert [(key["kid"], key["status"]) for key in await shown(stored)] == [
        (new["kid"], "SIGNING"), (old["kid"], "PUBLISHED"),
    ]  # fmt: skip

    payload = await operator.change("retireSigningKey", {"kid": old["kid"]})
    assert payload["__typename"] == "SigningKeyRetired"
    assert payload["signingKey"]["status"] == "RETIRED"
    assert payload["signingKey"]["readyAt"] is None
    payload = await operator.change("retireSigningKey", {"kid": old["kid"]})
    assert (payload["__typename"], payload["path"]) == ("InvalidTransition", ["kid"])
    payload = await operator.change("retireSigningKey", {"kid": new["kid"]})
    assert (payload["__typename"], payload["path"]) == ("InvalidTransition", ["kid"])
    assert [key["status"] for key in await shown(stored)] == ["SIGNING", "RETIRED"]


async def test_a_retired_key_s_tokens_are_refused_by_the_next_request(stored: Asking) -> None:
    """Those of the administrator who asks here, too."""
    [old] = await shown(stored)
    who = "{ viewer { agentId } }"
    assert await stored.data(who)
    fresh = (await stored.operator.change("publishSigningKey", {"algorithm": "ES256"}))[
        "signingKey"
    ]
    await stored.operator.change("activateSigningKey", {"kid": fresh["kid"], "immediately": True})
    assert await stored.data(who)
    await stored.operator.change("retireSigningKey", {"kid": old["kid"]})
    assert (await stored.post({"query": who})).status_code == 401
    assert await (await stored.by(stored.admin)).data(who)


@pytest.mark.parametrize("kid", ["", "unknown", "a\x00b", "x" * 1000, "' or 1=1 --", "ключ"])
@pytest.mark.parametrize("mutation", ["activateSigningKey", "retireSigningKey"])
async def test_a_key_that_cannot_be_is_not_found(stored: Asking, mutation: str, kid: str) -> None:
    before = await shown(stored)
    payload = await stored.operator.change(mutation, {"kid": kid})
    assert (payload["__typename"], payload["code"]) == ("NotFound", "NOT_FOUND")
    assert await shown(stored) == before


async def test_a_publication_may_be_repeated(stored: Asking) -> None:
    said = {"algorithm": "ES256", "idempotencyKey": "0b9a2c4e-8f1d-4a57-9d3e-5c6b7a8f9e01"}
    first = await stored.operator.change("publishSigningKey", said)
    assert await stored.operator.change("publishSigningKey", said) == first
    payload = await stored.operator.change("publishSigningKey", said | {"algorithm": "EDDSA"})
    assert payload["__typename"] == "IdempotencyKeyReused"
    assert len(await shown(stored)) == 2


async def test_no_private_half_is_ever_shown(stored: Asking) -> None:
    """Neither as it is kept, nor as it is."""
    await stored.operator.change("publishSigningKey", {"algorithm": "RS256"})
    said = json.dumps(await shown(stored)) + json.dumps(
        await stored.operator.data('{ __type(name: "SigningKey") { fields { name } } }')
    )
    assert "rivate" not in said
    for key in await stored.running.gateway.storage.registry.signing_keys.all():
        assert key.private_key
        assert key.private_key.hex() not in said
        assert forging.base64url(key.private_key) not in said


async def test_keys_of_the_configuration_are_shown_and_left_alone() -> None:
    key = forging.key_for("EdDSA")
    async with running(memory_settings(signing_keys=forging.pem(key))) as started:
        asking = Asking(started, await started.onboard())
        given = {
            "kid": forging.kid_of(key), "algorithm": "EDDSA", "status": "SIGNING",
            "createdAt": None, "changedAt": None, "readyAt": None,
        }  # fmt: skip
        assert await shown(asking) == [given]
        for mutation, said in (
            ("publishSigningKey", {"algorithm": "ES256"}),
            ("activateSigningKey", {"kid": given["kid"]}),
            ("retireSigningKey", {"kid": given["kid"]}),
        ):
            payload = await asking.operator.change(mutation, said)
            assert payload["__typename"] == "InvalidTransition"
            assert "SIGNING_KEYS" in payload["message"]
        assert await shown(asking) == [given]
