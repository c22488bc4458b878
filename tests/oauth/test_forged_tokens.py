"""Whatever a token says, wherever it is shown: nothing but what we have signed is believed.

Each is presented in every place that takes a token: as the bearer of a GraphQL request, as the
bearer of an introspection and of a revocation, as the token that is looked into and as the one that
is to be revoked. What is decided of a token by itself, for every kind of key, is tried in
tests/auth; here it is what each endpoint makes of that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from db.records import AuditAction
from gateway.settings import GatewaySettings
from tests.auth import forging
from tests.auth.overhearing import overheard
from tests.gateway import PUBLIC_URL, memory_settings, running
from tests.oauth.asking import Asking, error_of
from tests.oauth.counterfeits import FOR_OTHERS, FORGED, GOOD, Forging, Mint

INACTIVE = b'{"active":false}'
INVALID_TOKEN = (401, "invalid_token")
UNSTORABLE = ("jti in braces", "jti with a NUL", "jti of many bytes", "jti '\\ud800'",
              "sub of an injection", "no jti")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    asking: Asking
    mint: Mint

    async def graphql(self, token: str) -> httpx.Response:
        return await self.asking.running.client.post(
            "/graphql",
            json={"query": "{ viewer { agentId } }"},
            headers=[(b"authorization", f"Bearer {token}".encode())],
        )

    async def opens_nothing(self, token: str) -> None:
        """It is no proof of anybody, and nothing is done on its word."""
        asking, good = self.asking, self.mint.good
        answer = await self.graphql(token)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert answer.headers["cache-control"] == "no-store"
        assert set(answer.json()) == {"errors"}
        for endpoint in ("introspect", "revoke"):
            answer = await asking.post(endpoint, {"token": good}, authorization=f"Bearer {token}")
            assert error_of(answer) == INVALID_TOKEN
            assert answer.headers["www-authenticate"] == (
                'Bearer realm="agentidp", error="invalid_token"'
            )
        assert await asking.active(good)

    async def is_nothing(self, token: str) -> None:
        """Whoever looks into it is told no more, and there is nothing to revoke."""
        asking = self.asking
        answer = await asking.introspect(token)
        assert (answer.status_code, answer.content) == (200, INACTIVE)
        answer = await asking.revoke(token)
        assert (answer.status_code, answer.content) == (200, b"")
        assert not await asking.running.trail(asking.admin, AuditAction.TOKEN_REVOKED)
        assert await asking.active(self.mint.good)


def signing_as_the_forge(settings: GatewaySettings) -> GatewaySettings:
    key = SecretStr(forging.pem(forging.key_for("ES256")))
    return settings.model_copy(update={"signing_keys": key})


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running(signing_as_the_forge(memory_settings())) as started:
        asking = Asking(started, await started.onboard("acme"))
        yield Scene(asking, Mint.of(await started.token(asking.admin)))


@pytest.fixture
async def stored_scene(backend: GatewaySettings) -> AsyncIterator[Scene]:
    async with running(signing_as_the_forge(backend)) as started:
        asking = Asking(started, await started.onboard("acme"))
        yield Scene(asking, Mint.of(await started.token(asking.admin)))


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_what_is_tried_is_good_but_for_one_thing(scene: Scene, make: Forging) -> None:
    """So that each refusal below has one reason."""
    token = make(scene.mint)
    found = (await scene.graphql(token)).json()
    assert found == {"data": {"viewer": {"agentId": scene.asking.admin.client_id}}}
    answer = await scene.asking.introspect(scene.mint.good, authorization=f"Bearer {token}")
    assert answer.json()["active"]
    assert await scene.asking.active(token)
    assert (await scene.asking.revoke(token)).status_code == 200
    assert not await scene.asking.active(token)
    assert (await scene.graphql(token)).status_code == 401


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_one_nowhere_and_nobody_is_asked_about_it(
    scene: Scene, make: Forging
) -> None:
    """No file is opened, no name looked up, no connection made, whatever its header says."""
    await scene.asking.active(scene.mint.good)
    token = make(scene.mint)
    with overheard() as heard:
        await scene.opens_nothing(token)
        await scene.is_nothing(token)
    assert heard == []


@pytest.mark.parametrize("make", FOR_OTHERS.values(), ids=FOR_OTHERS)
async def test_one_that_is_meant_for_others_opens_nothing_here(scene: Scene, make: Forging) -> None:
    """Its receivers look into it here, and whoever has it can give it up."""
    token = make(scene.mint)
    await scene.opens_nothing(token)
    assert await scene.asking.active(token)
    assert (await scene.asking.revoke(token)).status_code == 200
    assert not await scene.asking.active(token)


async def test_one_of_five_megabytes_is_no_token(scene: Scene) -> None:
    """As a server would hand it on: over a wire, so long a header is not even read."""
    for token in ("x" * 5_000_000, scene.mint.headed(x="x" * 5_000_000)):
        await scene.opens_nothing(token)
        answer = await scene.asking.introspect(token)
        assert error_of(answer) == (413, "invalid_request")


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_what_no_column_could_hold_reaches_no_storage(stored_scene: Scene, name: str) -> None:
    token = FORGED[name](stored_scene.mint)
    await stored_scene.opens_nothing(token)
    await stored_scene.is_nothing(token)


async def test_a_jti_is_the_same_in_capitals(stored_scene: Scene) -> None:
    """So what was revoked in one spelling is revoked in the other."""
    asking, mint, jti = stored_scene.asking, stored_scene.mint, str(uuid4())
    capitals, small = mint.saying(jti=jti.upper()), mint.saying(jti=jti)
    assert await asking.active(small)
    assert (await asking.revoke(capitals)).status_code == 200
    for token in (capitals, small):
        assert not await asking.active(token)
        await stored_scene.opens_nothing(token)
    [event] = await asking.running.trail(asking.admin, AuditAction.TOKEN_REVOKED)
    assert event.metadata["jti"] == jti


async def test_a_jti_is_its_tenant_s_own(stored_scene: Scene) -> None:
    """Another tenant's token of the same jti is another token."""
    asking, mint, jti = stored_scene.asking, stored_scene.mint, str(uuid4())
    other = await asking.running.onboard("globex")
    theirs = Mint.of(await asking.running.token(other)).saying(jti=jti)
    assert (await asking.revoke(theirs)).status_code == 200
    assert (await asking.introspect(theirs)).content == INACTIVE
    assert (await asking.revoke(mint.saying(jti=jti))).status_code == 200
    assert not await asking.active(mint.saying(jti=jti))
    assert await asking.active(theirs, client=other, slug="globex")


async def test_what_says_another_tenant_is_not_of_this_one(stored_scene: Scene) -> None:
    """Signed by our own key, with the claims of an agent of `acme`: the issuer says whose it is,
    and there nobody knows that agent."""
    asking, mint = stored_scene.asking, stored_scene.mint
    other = await asking.running.onboard("globex")
    issuer = f"{PUBLIC_URL}/t/globex"
    token = mint.saying(iss=issuer, aud=issuer)
    await stored_scene.opens_nothing(token)
    await stored_scene.is_nothing(token)
    answer = await asking.introspect(token, client=other, slug="globex")
    assert answer.content == INACTIVE


async def test_what_names_an_agent_that_nobody_knows_is_not_active(stored_scene: Scene) -> None:
    token = stored_scene.mint.saying(sub=str(uuid4()))
    await stored_scene.opens_nothing(token)
    assert (await stored_scene.asking.introspect(token)).content == INACTIVE
