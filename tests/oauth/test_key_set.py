"""The key set as verifiers fetch it: what is in it, and how long they may keep it.

Sources: RFC 7517 §4 and §5, RFC 9110 §8.8.3 and §13.1.2, RFC 9111 §5.2.
"""

from __future__ import annotations

import httpx
import pytest

from db.records import SigningAlgorithm
from gateway.auth.keyring import JWKS_MAX_AGE
from gateway.auth.principal import Operator
from tests.auth import forging
from tests.gateway import memory_settings, running
from tests.oauth.asking import Asking

JWKS = "/t/acme/.well-known/jwks.json"


async def fetched(asking: Asking, kept: str | None = None, method: str = "GET") -> httpx.Response:
    headers = {} if kept is None else {"if-none-match": kept}
    return await asking.running.client.request(method, JWKS, headers=headers)


async def test_keys_of_every_kind_are_there_with_their_names_and_uses(asking: Asking) -> None:
    call = asking.running.call(Operator())
    for algorithm in SigningAlgorithm:
        await asking.running.gateway.keys.publish(call, algorithm)
        # By age, of which two that are made at one instant have the same.
        asking.running.clock.advance(1)
        call = asking.running.call(Operator())
    keys = (await fetched(asking)).json()["keys"]
    assert [(key["kty"], key["alg"], key["use"]) for key in keys] == [
        ("EC", "ES256", "sig"),
        ("EC", "ES256", "sig"),
        ("RSA", "RS256", "sig"),
        ("OKP", "EdDSA", "sig"),
    ]
    assert len({key["kid"] for key in keys}) == len(keys)
    private = {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}
    assert all(private.isdisjoint(key) for key in keys)


async def test_one_key_given_twice_is_there_once_and_the_order_is_that_of_the_setting() -> None:
    keys = [forging.key_for(each) for each in ("EdDSA", "ES256", "EdDSA", "RS256")]
    async with running(memory_settings(signing_keys="".join(map(forging.pem, keys)))) as started:
        asking = Asking(started, await started.onboard())
        found = [key["kid"] for key in (await fetched(asking)).json()["keys"]]
        assert found == [forging.kid_of(key) for key in (keys[0], keys[1], keys[3])]


async def test_it_may_be_kept_by_anybody_for_a_while(stored: Asking) -> None:
    answer = await fetched(stored)
    assert answer.headers["cache-control"] == f"public, max-age={JWKS_MAX_AGE}"
    assert answer.headers["etag"].startswith('"')
    again = await fetched(stored)
    assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"x", {tag}', '"x",W/{tag},"y"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_it_is_told_so_and_sent_nothing(
    asking: Asking, form: str, method: str
) -> None:
    tag = (await fetched(asking)).headers["etag"]
    answer = await fetched(asking, form.replace("{tag}", tag), method)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    assert answer.headers["cache-control"] == f"public, max-age={JWKS_MAX_AGE}"
    # What would have been sent is not described, least of all as empty.
    assert {"content-length", "content-type"}.isdisjoint(answer.headers)


@pytest.mark.parametrize("form", ["", '"x"', "{bare}", "{tag}x", "w/{tag}", '"{tag}"'])
async def test_who_has_another_is_sent_it(asking: Asking, form: str) -> None:
    tag = (await fetched(asking)).headers["etag"]
    kept = form.replace("{tag}", tag).replace("{bare}", tag.strip('"'))
    answer = await fetched(asking, kept)
    assert answer.status_code == 200
    assert answer.json()["keys"]


async def test_another_set_has_another_tag(asking: Asking) -> None:
    tag = (await fetched(asking)).headers["etag"]
    call = asking.running.call(Operator())
    await asking.running.gateway.keys.publish(call, SigningAlgorithm.ES256)
    answer = await fetched(asking, tag)
    assert answer.status_code == 200
    assert answer.headers["etag"] != tag
    assert len(answer.json()["keys"]) == 2


async def test_all_tenants_have_the_same_set(asking: Asking) -> None:
    await asking.running.onboard("globex")
    tag = (await fetched(asking)).headers["etag"]
    other = await asking.running.client.get(JWKS.replace("acme", "globex"))
    assert other.headers["etag"] == tag
