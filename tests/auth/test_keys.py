"""Where the signing keys come from, and what stops a gateway that cannot have them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from db.errors import Misconfigured
from db.memory.storage import MemoryStorage
from db.records import SigningKey, SigningKeyStatus
from gateway.auth.keys import KeyRing, load_keys
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway, assemble
from tests.auth import forging
from tests.gateway import memory_settings, postgres_settings, running
from tests.servers.databases import Database

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def given(pem: str) -> KeyRing:
    return await load_keys(memory_settings(signing_keys=pem), MemoryStorage(), NOW)


def published(keys: KeyRing) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = json.loads(keys.jwks)["keys"]
    return found


class TestGiven:
    async def test_the_first_signs_and_all_are_published(self) -> None:
        first, second = forging.new_key(), forging.new_key()
        ring = await given(forging.pem(first) + forging.pem(second))
        assert ring.signing.private.private_numbers() == first.private_numbers()
        assert [key["kid"] for key in published(ring)] == list(map(kid_of, (first, second)))

    async def test_a_kid_is_the_thumbprint_of_its_key(self) -> None:
        """RFC 7638: the same key has the same name wherever it is loaded."""
        key = forging.new_key()
        [again] = published(await given(forging.pem(key)))
        assert again["kid"] == kid_of(key)

    async def test_the_published_half_is_public(self) -> None:
        key = forging.new_key()
        ring = await given(forging.pem(key))
        [jwk] = published(ring)
        assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        secret = key.private_numbers().private_value.to_bytes(32)
        assert forging.base64url(secret).encode() not in ring.jwks
        assert "private" not in repr(ring.signing)

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
        assert len(published(await given(pem))) == 1

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP256K1()),
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["P-384", "secp256k1", "RSA", "Ed25519"],
    )
    async def test_a_key_of_another_kind_is_refused(
        self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    ) -> None:
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        with pytest.raises(Misconfigured, match="P-256"):
            await given(forging.pem(forging.new_key()) + pem)

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
            jwks = first.gateway.authority.jwks
        async with running(settings, clock=first.clock) as second:
            assert second.gateway.authority.jwks == jwks
            assert second.gateway.authority.verify(token, second.clock.now)

    async def test_gateways_that_start_at_once_agree_on_one_key(
        self, settings: GatewaySettings
    ) -> None:
        gateways: list[Gateway] = []

        async def start() -> None:
            gateways.append(await assemble(settings))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(start)
        assert len({gateway.authority.jwks for gateway in gateways}) == 1
        assert len(await gateways[0].storage.registry.signing_keys.all()) == 1
        for gateway in gateways:
            await gateway.close()

    async def test_what_is_kept_is_not_the_key(self, settings: GatewaySettings) -> None:
        async with running(settings) as started:
            [kept] = await started.gateway.storage.registry.signing_keys.all()
            ring = await load_keys(settings, started.gateway.storage, NOW)
        secret = ring.signing.private.private_numbers().private_value.to_bytes(32)
        assert kept.kid == ring.signing.kid
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
            kept = started.gateway.authority.jwks
        key = forging.new_key()
        pem = forging.pem(key)
        async with running(
            postgres_settings(empty_database, redis_url, signing_keys=pem)
        ) as started:
            assert started.gateway.authority.jwks != kept
            [jwk] = jwt.PyJWKSet.from_json(started.gateway.authority.jwks.decode()).keys
            assert jwk.key_id == kid_of(key)


async def test_in_memory_every_start_makes_another_key() -> None:
    first, second = [
        (await load_keys(memory_settings(), MemoryStorage(), NOW)).signing.kid for _ in range(2)
    ]
    assert first != second


def kid_of(key: ec.EllipticCurvePrivateKey) -> str:
    """By the letter of RFC 7638 §3, and without our code."""
    numbers = key.public_key().public_numbers()
    x, y = (forging.base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    return forging.base64url(hashlib.sha256(canonical.encode()).digest())
