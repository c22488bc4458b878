"""A client that proves itself by a JWT of its own (RFC 7523): how, where, and once."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis

from db.records import AuditAction
from tests.gateway import postgres_settings, running
from tests.oauth.asking import GRANT, Asking, basic, error_of, in_body
from tests.oauth.signing import (
    ISSUER,
    JWT_BEARER,
    asserting,
    enrolled,
    jwk_of,
    new_key,
    present,
    rsa_key,
)
from tests.servers.databases import Database

INVALID_REQUEST = (400, "invalid_request")
INVALID_CLIENT = (401, "invalid_client")


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"])
async def test_a_client_that_signs_gets_a_token(stored: Asking, algorithm: str) -> None:
    signer = await enrolled(stored, algorithm)
    answer = await present(stored, signer.assertion())
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["sub"] == signer.client_id
    assert claims["credential_id"] == str(signer.credential.credential_id)
    [*_, event] = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
    assert event.metadata["credentialId"] == str(signer.credential.credential_id)


async def test_an_rsa_key_of_4096_bits_will_do(asking: Asking) -> None:
    signer = await enrolled(asking, "RS256", key=rsa_key(bits=4096))
    assert (await present(asking, signer.assertion())).status_code == 200


async def test_the_other_endpoints_take_an_assertion_too(stored: Asking) -> None:
    signer = await enrolled(stored)
    token = (await present(stored, signer.assertion())).json()["access_token"]
    found = await present(stored, signer.assertion(), "introspect", token=token)
    assert found.json()["active"] is True
    assert (await present(stored, signer.assertion(), "revoke", token=token)).status_code == 200
    found = await present(stored, signer.assertion(), "introspect", token=token)
    assert found.content == b'{"active":false}'


async def test_the_same_client_id_may_stand_in_the_body_and_no_other(asking: Asking) -> None:
    signer = await enrolled(asking)
    said = {"client_id": signer.client_id}
    assert (await present(asking, signer.assertion(), **said)).status_code == 200
    for other in (str(uuid4()), signer.client_id.upper(), "x"):
        answer = await present(asking, signer.assertion(), client_id=other)
        assert error_of(answer) == INVALID_CLIENT


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"]
)
async def test_its_type_is_that_of_a_jwt_or_of_an_authentication(asking: Asking, typ: str) -> None:
    signer = await enrolled(asking)
    assert (await present(asking, signer.assertion({"typ": typ}))).status_code == 200


async def test_what_its_header_and_its_claims_say_besides_is_not_read(asking: Asking) -> None:
    """Among it keys, and addresses of keys, that another could have signed with."""
    signer, other = await enrolled(asking), new_key("ES256")
    elsewhere = "https://evil.example/keys"
    header = {"jwk": jwk_of(other), "jku": elsewhere, "x5u": elsewhere, "x5c": ["x"], "cty": "x"}
    answer = await present(asking, signer.assertion(header, nbf=1, scope="x", extra={"a": [1]}))
    assert answer.status_code == 200


async def test_its_instants_may_have_fractions(stored: Asking) -> None:
    """RFC 7519 §2: a NumericDate is a number of seconds, which need not be whole."""
    signer = await enrolled(stored)
    now = stored.running.clock.now.timestamp()
    assertion = signer.assertion(iat=now - 0.5, nbf=now - 0.5, exp=now + 0.5)
    assert (await present(stored, assertion)).status_code == 200
    assert error_of(await present(stored, assertion)) == INVALID_CLIENT
    [told] = await stored.running.trail(stored.admin, AuditAction.AUTH_FAILED)
    assert told.metadata == {"reason": "replayed_assertion"}


class TestOneWay:
    """Of a secret in the header, one in the body, an assertion and a token there is just one."""

    async def test_an_assertion_and_a_secret_are_refused(self, asking: Asking) -> None:
        signer, admin = await enrolled(asking), asking.admin
        form = {**GRANT, **asserting(signer.assertion())}
        for answer in (
            await asking.token(form),
            await asking.token({**form, **in_body(admin)}, authorization=None),
            await asking.token({**form, "client_secret": "x"}, authorization=None),
            await asking.token({**form, **in_body(admin)}),
            await asking.token(form, authorization="Bearer x"),
            await asking.token(form, authorization="Digest x"),
        ):
            assert error_of(answer) == INVALID_REQUEST
        # None of them used the assertion up.
        assert (await asking.token(form, authorization=None)).status_code == 200

    @pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
    async def test_an_assertion_and_a_token_are_refused(
        self, asking: Asking, endpoint: str
    ) -> None:
        signer = await enrolled(asking)
        token = await asking.running.token(asking.admin)
        form = {"token": token, **asserting(signer.assertion())}
        for authorization in (f"Bearer {token}", basic(asking.admin.client_id, "x")):
            answer = await asking.post(endpoint, form, authorization=authorization)
            assert error_of(answer) == INVALID_REQUEST
        assert await asking.active(token)

    async def test_an_assertion_comes_with_its_type_and_a_type_with_its_assertion(
        self, asking: Asking
    ) -> None:
        signer = await enrolled(asking)
        whole = asserting(signer.assertion())
        for name in whole:
            for value in ({}, {name: ""}):
                form = {**GRANT, **{k: v for k, v in whole.items() if k != name}, **value}
                assert error_of(await asking.token(form, authorization=None)) == INVALID_REQUEST
                # A half is a way of its own too, beside a secret.
                assert error_of(await asking.token(form)) == INVALID_REQUEST

    @pytest.mark.parametrize(
        "kind",
        ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", JWT_BEARER.upper(), "jwt"],
    )
    async def test_another_type_is_a_method_that_is_not_supported(
        self, asking: Asking, kind: str
    ) -> None:
        signer = await enrolled(asking)
        form = {**GRANT, **asserting(signer.assertion()), "client_assertion_type": kind}
        assert error_of(await asking.token(form, authorization=None)) == INVALID_CLIENT

    async def test_a_parameter_that_is_there_twice_is_refused(self, asking: Asking) -> None:
        signer = await enrolled(asking)
        form = [*GRANT.items(), *asserting(signer.assertion()).items()]
        for twice in form[1:]:
            answer = await asking.token([*form, twice], authorization=None)
            assert error_of(answer) == INVALID_REQUEST


class TestOnce:
    async def test_an_assertion_is_good_once(self, stored: Asking) -> None:
        signer = await enrolled(stored)
        assertion = signer.assertion()
        assert (await present(stored, assertion)).status_code == 200
        issued = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
        token = await stored.running.token(stored.admin)
        for endpoint in ("token", "introspect", "revoke"):
            answer = await present(stored, assertion, endpoint, token=token)
            assert error_of(answer) == INVALID_CLIENT
        told = await stored.running.trail(stored.admin, AuditAction.AUTH_FAILED)
        assert [event.metadata for event in told] == [{"reason": "replayed_assertion"}] * 3
        assert {str(event.agent_id) for event in told} == {signer.client_id}
        # The one more is `token`'s own, which is untouched.
        after = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
        assert len(after) == len(issued) + 1
        assert await stored.active(token)

    async def test_its_jti_is_used_up_whatever_else_the_next_one_says(self, stored: Asking) -> None:
        signer = await enrolled(stored)
        first = signer.assertion(jti="once")
        assert (await present(stored, first)).status_code == 200
        stored.running.clock.advance(1)
        again = signer.assertion(jti="once")
        assert again != first
        assert error_of(await present(stored, again)) == INVALID_CLIENT
        assert (await present(stored, signer.assertion(jti="Once"))).status_code == 200

    async def test_of_many_at_once_one_is_taken(self, stored: Asking) -> None:
        signer = await enrolled(stored)
        assertion = signer.assertion()
        answers = await asyncio.gather(*(present(stored, assertion) for _ in range(10)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] + [401] * 9

    async def test_it_is_used_up_by_its_owner_alone(self, stored: Asking) -> None:
        """Not by a forgery, by another client's assertion of the same jti, nor by one refused for
        another reason."""
        signer = await enrolled(stored)
        worker = await stored.running.client_of(stored.admin)
        other = await enrolled(stored, client=worker)
        head, payload, signature = signer.assertion(jti="mine").split(".")
        forged = f"{head}.{payload}.{signature[:-8]}AAAAAAAA"
        assert error_of(await present(stored, forged)) == INVALID_CLIENT
        assert (await present(stored, other.assertion(jti="mine"))).status_code == 200
        for wrong in ({"aud": "https://x.example"}, {"exp": 1}, {"iss": worker.client_id}):
            answer = await present(stored, signer.assertion(jti="mine", **wrong))
            assert error_of(answer) == INVALID_CLIENT
        assert (await present(stored, signer.assertion(jti="mine"))).status_code == 200

    async def test_it_is_nobody_s_token_that_is_used_up(self, stored: Asking) -> None:
        """A client chooses its jti; that of a live token is none of the choices."""
        signer = await enrolled(stored)
        token = await stored.running.token(stored.admin)
        jti = jwt.decode(token, options={"verify_signature": False})["jti"]
        assert (await present(stored, signer.assertion(jti=jti))).status_code == 200
        assert await stored.active(token)
        revocations = stored.running.gateway.storage.read(stored.admin.prefix).revocations
        [kept] = await revocations.batch(UUID(int=0), 10)
        assert (kept.jti != UUID(jti), kept.jti.version) == (True, 8)

    async def test_it_is_remembered_until_it_has_ended_and_the_sweep_leaves_it_till_then(
        self, stored: Asking
    ) -> None:
        signer = await enrolled(stored)
        running = stored.running
        assertion = signer.assertion()
        assert (await present(stored, assertion)).status_code == 200
        storage = running.gateway.storage
        [kept] = await storage.read(stored.admin.prefix).revocations.batch(UUID(int=0), 10)
        assert int(kept.expires_at.timestamp()) == signer.claims["exp"]
        assert await storage.upkeep.sweep_revocations(stored.admin.prefix, running.clock.now) == 0
        running.clock.advance(59)
        assert error_of(await present(stored, assertion)) == INVALID_CLIENT
        running.clock.advance(1)
        assert error_of(await present(stored, assertion)) == INVALID_CLIENT
        told = await running.trail(stored.admin, AuditAction.AUTH_FAILED)
        reasons = [event.metadata["reason"] for event in told]
        assert reasons == ["replayed_assertion", "expired_assertion"]


async def test_a_replay_at_another_gateway_of_the_same_database_is_refused(
    empty_database: Database, redis_url: str, redis: Redis
) -> None:
    settings = postgres_settings(empty_database, redis_url)
    async with running(settings) as one:
        asking = Asking(one, await one.onboard("acme"))
        signer = await enrolled(asking)
        async with running(settings, clock=one.clock) as two:
            elsewhere = Asking(two, asking.admin)
            first, second = signer.assertion(), signer.assertion()
            assert (await present(asking, first)).status_code == 200
            assert error_of(await present(elsewhere, first)) == INVALID_CLIENT
            # What the cache remembers is no part of it.
            await redis.flushdb()
            assert error_of(await present(elsewhere, first)) == INVALID_CLIENT
            both = await asyncio.gather(
                *(present(each, second) for each in (asking, elsewhere) for _ in range(4))
            )
            assert sorted(answer.status_code for answer in both) == [200] + [401] * 7


async def test_an_assertion_is_good_at_no_other_tenant(stored: Asking) -> None:
    """Not at one that has the same client and the same key, either: its audience is one issuer."""
    signer = await enrolled(stored)
    other = await stored.running.onboard("globex")
    for assertion in (signer.assertion(), signer.assertion(aud=ISSUER.replace("acme", "globex"))):
        answer = await present(stored, assertion, slug="globex")
        assert error_of(answer) == INVALID_CLIENT
    told = await stored.running.trail(other, AuditAction.AUTH_FAILED)
    assert [event.metadata["reason"] for event in told] == ["unknown_client"] * 2
    assert {event.metadata["clientId"] for event in told} == {signer.client_id}
    assert not await stored.running.trail(stored.admin, AuditAction.AUTH_FAILED)


async def test_an_unknown_tenant_is_not_found_before_anything_is_read(asking: Asking) -> None:
    signer = await enrolled(asking)
    answer = await present(asking, signer.assertion(), slug="nobody")
    assert error_of(answer) == (404, "invalid_request")
    assert not await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
