"""One gateway's rotation, seen from another one on the same database and cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest
from redis.asyncio import Redis

from db.cuts import CLOCK_LEEWAY_SECONDS, CUT_LIFE, LAST_SECOND
from db.errors import InvalidTransition, Unauthenticated, Unavailable
from db.namespace import retired_key
from db.records import SigningAlgorithm, SigningKeyStatus
from db.warmth import LEASE_SECONDS
from db.work import JobName
from gateway.auth.keyring import RELOAD_SECONDS
from gateway.auth.principal import Operator
from gateway.auth.vault import Vault
from gateway.services.call import Call
from tests.auth import forging
from tests.gateway import KEY_ENCRYPTION_SECRET, Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey


@dataclass
class Pair:
    """Two gateways with one clock; what `here` does is seen by `there`."""

    here: RunningGateway
    there: RunningGateway
    admin: Client

    @property
    def operator(self) -> Call:
        return self.here.call(Operator())

    async def rotated(self) -> tuple[str, str]:
        """The key before, and one that has just come to sign."""
        keys = self.here.gateway.keys
        [before] = await keys.all()
        fresh = await keys.publish(self.operator, SigningAlgorithm.EDDSA)
        await keys.activate(self.operator, fresh.kid, immediately=True)
        return before.kid, fresh.kid

    async def is_accepted(self, token: str, by: RunningGateway) -> bool:
        try:
            await by.gateway.authenticator.bearer([f"Bearer {token}"], by.clock.now)
        except Unauthenticated:
            return False
        return True

    async def published_by(self, gateway: RunningGateway) -> list[str]:
        answer = await gateway.client.get(f"/t/{self.admin.slug}/.well-known/jwks.json")
        return [key["kid"] for key in answer.json()["keys"]]


@pytest.fixture
async def pair(empty_database: Database, redis: Redis, redis_url: str) -> AsyncIterator[Pair]:
    settings = postgres_settings(empty_database, redis_url)
    async with running(settings) as here, running(settings, clock=here.clock) as there:
        yield Pair(here, there, await here.onboard())


async def test_what_a_new_key_signs_verifies_elsewhere_at_once(pair: Pair) -> None:
    _, fresh = await pair.rotated()
    token = await pair.here.token(pair.admin)
    assert forging.signed_by(token) == fresh
    assert await pair.is_accepted(token, pair.there)


async def test_a_key_set_elsewhere_follows_within_its_interval(pair: Pair) -> None:
    [before] = await pair.published_by(pair.there)
    fresh = await pair.here.gateway.keys.publish(pair.operator, SigningAlgorithm.ES256)
    pair.there.clock.advance(RELOAD_SECONDS)
    assert await pair.published_by(pair.there) == [before, fresh.kid]


async def test_a_gateway_signs_with_the_key_before_for_no_longer_than_that(pair: Pair) -> None:
    before, fresh = await pair.rotated()
    old = await pair.there.token(pair.admin)
    assert forging.signed_by(old) == before
    # Which is good: the key before verifies as long as it is not retired.
    assert await pair.is_accepted(old, pair.here)
    pair.there.clock.advance(RELOAD_SECONDS)
    assert forging.signed_by(await pair.there.token(pair.admin)) == fresh


@pytest.mark.parametrize("warm", [True, False], ids=["by the cache", "by the registry"])
async def test_a_retired_key_s_tokens_are_refused_elsewhere_at_once(
    pair: Pair, redis: Redis, warm: bool
) -> None:
    token = await pair.here.token(pair.admin)
    before, _ = await pair.rotated()
    other = await pair.here.token(pair.admin)
    if warm:
        await pair.here.gateway.work.run(pair.operator, JobName.WARM_REVOCATIONS, None)
    assert await pair.there.gateway.revocations.is_warm() is warm
    for gateway in (pair.here, pair.there):
        # And remembered, so that the signature is not looked at again.
        assert await pair.is_accepted(token, gateway)
    await pair.here.gateway.keys.retire(pair.operator, before)
    if not warm:
        await redis.flushdb()
    for gateway in (pair.here, pair.there):
        assert not await pair.is_accepted(token, gateway)
        assert await pair.is_accepted(other, gateway)
    introspected = await pair.there.client.post(
        f"/t/{pair.admin.slug}/oauth2/introspect",
        data={"token": token},
        auth=(pair.admin.client_id, pair.admin.secret),
    )
    assert introspected.json() == {"active": False}


async def test_what_a_gateway_signs_that_has_not_heard_is_dead_from_the_beginning(
    pair: Pair,
) -> None:
    """For the seconds until it looks again: never does one of those tokens live."""
    before, _ = await pair.rotated()
    await pair.here.gateway.keys.retire(pair.operator, before)
    token = await pair.there.token(pair.admin)
    assert forging.signed_by(token) == before
    for gateway in (pair.here, pair.there):
        assert not await pair.is_accepted(token, gateway)
    pair.there.clock.advance(RELOAD_SECONDS)
    again = await pair.there.token(pair.admin)
    assert await pair.is_accepted(again, pair.there)


async def test_a_retirement_is_acknowledged_when_nobody_can_think_otherwise(
    empty_database: Database,
) -> None:
    """While the cache's server is away, that is when every lease is over. It is made all the same,
    and asking again is harmless, and is the way."""
    with temporary_place() as room:
        valkey = Valkey(room / "valkey")
        valkey.start()
        try:
            async with running(postgres_settings(empty_database, valkey.url())) as gateway:
                pair = Pair(gateway, gateway, await gateway.onboard())
                token = await gateway.token(pair.admin)
                before, fresh = await pair.rotated()
                valkey.stop()
                call = pair.operator
                over = timedelta(seconds=LEASE_SECONDS + CLOCK_LEEWAY_SECONDS)
                keys = gateway.gateway.keys
                for later in (timedelta(0), over - timedelta(seconds=1)):
                    with pytest.raises(Unavailable):
                        await keys.retire(replace(call, now=call.now + later), before)
                    assert not await pair.is_accepted(token, gateway)
                with pytest.raises(InvalidTransition, match="retired already"):
                    await keys.retire(replace(call, now=call.now + over), before)
                assert [(key.kid, key.status, key.changed_at) for key in await keys.all()] == [
                    (fresh, SigningKeyStatus.SIGNING, call.now),
                    (before, SigningKeyStatus.RETIRED, call.now),
                ]
        finally:
            valkey.stop()


async def test_a_stolen_key_that_was_retired_long_ago_signs_nothing_that_is_accepted(
    pair: Pair, redis: Redis
) -> None:
    """Though a gateway still knows it that has published and signed nothing since, and the cache,
    which is warm, has been filled after the longest life of a token that we would issue."""
    [kept] = await pair.here.gateway.storage.registry.signing_keys.all()
    stolen = Vault(KEY_ENCRYPTION_SECRET).open(kept)
    issued = await pair.here.token(pair.admin)
    claims = jwt.decode(issued, options={"verify_signature": False})
    header = jwt.get_unverified_header(issued)

    def forge() -> str:
        lasting = {"jti": str(uuid4()), "exp": claims["exp"] + 10 * 365 * 86_400}
        return forging.signed(stolen.private, header, {**claims, **lasting})

    assert await pair.is_accepted(forge(), pair.there)
    long_ago = replace(pair.operator, now=pair.operator.now - 2 * CUT_LIFE)
    keys = pair.here.gateway.keys
    fresh = await keys.publish(long_ago, SigningAlgorithm.ES256)
    await keys.activate(long_ago, fresh.kid, immediately=True)
    await keys.retire(long_ago, stolen.kid)
    await pair.here.warm_up()
    assert not await pair.is_accepted(forge(), pair.there)
    await redis.flushdb()
    await pair.here.warm_up()
    assert not await pair.is_accepted(forge(), pair.there)


async def test_the_cut_of_a_key_never_ends(pair: Pair, redis: Redis) -> None:
    before, _ = await pair.rotated()
    await pair.here.gateway.keys.retire(pair.operator, before)
    async with redis.pipeline() as pipeline:
        pipeline.expiretime(retired_key(before))
        assert await pipeline.execute() == [LAST_SECOND]
