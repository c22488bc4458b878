"""Where the signing keys come from, and what stops a gateway that cannot have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from db.clock import system_clock
from db.errors import Misconfigured
from db.memory.storage import MemoryStorage
from db.records import SigningKey, SigningKeyStatus
from gateway.auth.keyring import KeySet, load_keys
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway, assemble
from tests.auth import forging
from tests.gateway import RunningGateway, memory_settings, postgres_settings, running
from tests.servers.databases import Database

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def given(pem: str) -> KeySet:
    ring = await load_keys(memory_settings(signing_keys=pem), MemoryStorage(), NOW)
    return ring.known


async def jwks_of(running: RunningGateway) -> bytes:
    return (await running.gateway.authority.published(running.clock.now)).jwks


def published(keys: KeySet) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = json.loads(keys.jwks)["keys"]
    return found


def kids(keys: KeySet) -> list[str]:
    return [key["kid"] for key in published(keys)]


class TestGiven:
    async def test_the_first_signs_and_all_are_published(self) -> None:
        first, second = forging.new_key(), forging.new_key()
        ring = await given(forging.pem(first) + forging.pem(second))
        assert ring.signing.kid == forging.kid_of(first)
        assert kids(ring) == list(map(forging.kid_of, (first, second)))

    @pytest.mark.parametrize("algorithm", forging.ALGORITHMS)
    async def test_what_is_published_is_the_public_half_under_its_thumbprint(
        self, algorithm: str
    ) -> None:
        """RFC 7638: the same key has the same name wherever it is loaded."""
        key = forging.key_for(algorithm)
        ring = await given(forging.pem(key))
        [jwk] = published(ring)
        named = {"kid": forging.kid_of(key), "alg": algorithm, "use": "sig"}
        assert jwk == forging.jwk_of(key) | named
        # A member of which nobody knows a private counterpart, and a name that says nothing of it.
        assert "private" not in repr(ring.signing)

    async def test_keys_of_every_kind_may_be_mixed_and_the_first_signs(self) -> None:
        keys = [forging.key_for(algorithm) for algorithm in reversed(forging.ALGORITHMS)]
        ring = await given("\n".join(map(forging.pem, keys)))
        assert kids(ring) == list(map(forging.kid_of, keys))
        assert ring.signing.algorithm == forging.ALGORITHMS[-1]

    async def test_a_key_that_is_given_twice_is_published_once(self) -> None:
        first, second = forging.new_key(), forging.new_key()
        ring = await given("".join(map(forging.pem, (first, second, first))))
        assert kids(ring) == list(map(forging.kid_of, (first, second)))

    async def test_the_same_keys_make_the_same_set_to_the_byte(self) -> None:
        pem = "".join(forging.pem(forging.key_for(each)) for each in forging.ALGORITHMS)
        one, other = await given(pem), await given(pem)
        assert (one.jwks, one.etag) == (other.jwks, other.etag)
        assert one.etag != (await given(forging.pem(forging.new_key()))).etag

    async def test_line_breaks_may_be_written_as_an_environment_must(self) -> None:
        pem = forging.pem(forging.new_key()).replace("\n", "\\n")
        assert len(published(await given(pem))) == 1

    async def test_the_older_pem_of_an_ec_key_will_do(self) -> None:
        key = forging.new_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
        # As `openssl ecparam -genkey` writes it: the curve first, in a block of its own.
        curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        for text in (pem, curve + pem):
            assert kids(await given(text)) == [forging.kid_of(key)]
        with pytest.raises(Misconfigured, match="holds no PEM block"):
            await given(curve)

    @pytest.mark.parametrize("bits", [2048, 3072, 4096])
    async def test_an_rsa_key_of_a_usual_size_will_do(self, bits: int) -> None:
        [jwk] = published(await given(forging.pem(rsa.generate_private_key(65537, bits))))
        assert (jwk["alg"], jwk["e"], len(jwk["n"])) == ("RS256", "AQAB", -(-bits // 6))

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP256K1()),
            rsa.generate_private_key(65537, 1024),
            rsa.generate_private_key(65537, 2040),
            rsa.generate_private_key(3, 2048),
            ed448.Ed448PrivateKey.generate(),
            x25519.X25519PrivateKey.generate(),
        ],
        ids=["P-384", "secp256k1", "RSA-1024", "RSA-2040", "RSA-e3", "Ed448", "X25519"],
    )
    async def test_a_key_of_another_kind_or_size_is_refused(self, key: Any) -> None:
        pem = forging.pem(key)
        with pytest.raises(Misconfigured, match="P-256, RSA of 2048 to 4096 bits, or Ed25519"):
            await given(forging.pem(forging.new_key()) + pem)

    async def test_an_rsa_key_that_would_hold_up_every_request_is_refused(self) -> None:
        # Of two Mersenne primes, because to find others takes a while.
        p, q, e = 2**2203 - 1, 2**2281 - 1, 65537
        d = pow(e, -1, (p - 1) * (q - 1))
        key = rsa.RSAPrivateNumbers(
            p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
        ).private_key(unsafe_skip_rsa_key_validation=True)
        with pytest.raises(Misconfigured, match="P-256, RSA of 2048 to 4096 bits, or Ed25519"):
            await given(forging.pem(key))

    @pytest.mark.parametrize("pem", ["", "no pem", "-----BEGIN PRIVATE KEY-----"])
    async def test_text_without_a_pem_block_is_refused(self, pem: str) -> None:
        with pytest.raises(Misconfigured, match="SIGNING_KEYS holds no PEM block"):
            await given(pem)

    async def test_a_block_that_is_no_private_key_is_refused_without_being_shown(self) -> None:
        key = forging.new_key()
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        ).decode()
        garbage = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWNhbmFyeQ==\n-----END PRIVATE KEY-----"
        for pem in (forging.public_pem(key).decode(), encrypted, garbage):
            with pytest.raises(Misconfigured, match="that is no private key") as refused:
                await given(pem)
            assert pem.splitlines()[1] not in refused.value.message


class TestMade:
    """And kept in the registry, sealed."""

    @pytest.fixture
    def settings(self, empty_database: Database, redis_url: str) -> GatewaySettings:
        return postgres_settings(empty_database, redis_url)

    async def test_the_next_start_finds_the_same_key(self, settings: GatewaySettings) -> None:
        async with running(settings) as first:
            admin = await first.onboard("acme")
            token = await first.token(admin)
            jwks = await jwks_of(first)
        async with running(settings, clock=first.clock) as second:
            assert await jwks_of(second) == jwks
            assert await second.gateway.authority.verify(token, second.clock.now)

    async def test_gateways_that_start_at_once_agree_on_one_key(
        self, settings: GatewaySettings
    ) -> None:
        gateways: list[Gateway] = []

        async def start() -> None:
            gateways.append(await assemble(settings))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(start)
        now = system_clock()
        assert len({(await each.authority.published(now)).jwks for each in gateways}) == 1
        assert len(await gateways[0].storage.registry.signing_keys.all()) == 1
        for gateway in gateways:
            await gateway.close()

    async def test_what_is_kept_is_not_the_key(self, settings: GatewaySettings) -> None:
        async with running(settings) as started:
            [kept] = await started.gateway.storage.registry.signing_keys.all()
            ring = await load_keys(settings, started.gateway.storage, NOW)
        private = ring.known.signing.private
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        secret = private.private_numbers().private_value.to_bytes(32)
        assert (kept.kid, kept.algorithm) == (ring.known.signing.kid, "ES256")
        assert secret not in kept.private_key
        with pytest.raises(ValueError):
            serialization.load_der_private_key(kept.private_key, password=None)

    async def test_another_encryption_secret_refuses_to_start(
        self, settings: GatewaySettings, empty_database: Database, redis_url: str
    ) -> None:
        async with running(settings):
            pass
        other = "what-opens-none-of-the-keys-kept"
        wrong = postgres_settings(empty_database, redis_url, key_encryption_secret=other)
        with pytest.raises(Misconfigured, match="KEY_ENCRYPTION_SECRET does not open"):
            await assemble(wrong)

    async def test_a_sealed_key_under_another_name_refuses_to_start(
        self, settings: GatewaySettings
    ) -> None:
        """The kid is sealed in: whoever can write rows cannot make an old key the signing one."""
        async with running(settings) as started:
            storage = started.gateway.storage
            [kept] = await storage.registry.signing_keys.all()
            async with storage.registry_unit() as unit:
                await unit.signing_keys.add(
                    SigningKey("x", "ES256", kept.private_key, SigningKeyStatus.PUBLISHED, NOW, NOW)
                )
        with pytest.raises(Misconfigured, match="KEY_ENCRYPTION_SECRET does not open"):
            await assemble(settings)

    async def test_keys_that_are_given_take_the_place_of_those_that_are_kept(
        self, settings: GatewaySettings, empty_database: Database, redis_url: str
    ) -> None:
        async with running(settings) as started:
            kept = await jwks_of(started)
        key = forging.new_key()
        pem = forging.pem(key)
        async with running(
            postgres_settings(empty_database, redis_url, signing_keys=pem)
        ) as started:
            assert await jwks_of(started) != kept
            [jwk] = jwt.PyJWKSet.from_json((await jwks_of(started)).decode()).keys
            assert jwk.key_id == forging.kid_of(key)

    async def test_a_given_key_that_was_retired_refuses_to_start(
        self, settings: GatewaySettings, empty_database: Database, redis_url: str
    ) -> None:
        """Whatever it signed, everybody would refuse."""
        key = forging.new_key()
        kid = forging.kid_of(key)
        held = SigningKey(kid, "ES256", b"", SigningKeyStatus.RETIRED, NOW, NOW)
        async with (
            running(settings) as started,
            started.gateway.storage.registry_unit() as unit,
        ):
            await unit.signing_keys.add(held)
        again = postgres_settings(empty_database, redis_url, signing_keys=forging.pem(key))
        with pytest.raises(Misconfigured, match=f"SIGNING_KEYS holds the key {kid}, which was"):
            await assemble(again)


async def test_what_is_made_on_an_application_s_own_engine_is_not_sealed_under_a_passing_secret(
    empty_database: Database,
) -> None:
    """The next process could not open it, and would not start."""
    engine = create_async_engine(
        make_url(empty_database.app_url).set(drivername="postgresql+asyncpg")
    )
    with pytest.raises(Misconfigured, match="SIGNING_KEYS, or KEY_ENCRYPTION_SECRET"):
        await assemble(memory_settings(), engine=engine)
    await engine.dispose()


async def test_in_memory_every_start_makes_another_key() -> None:
    first, second = [
        (await load_keys(memory_settings(), MemoryStorage(), NOW)).known.signing.kid
        for _ in range(2)
    ]
    assert first != second
