"""A client proves itself by a JWT that it signed with a key of its own: `private_key_jwt`.

Meant for this issuer and nobody else, so that what one server is sent cannot be shown to another:
`aud` is the issuer identifier as one text, never a list and never an endpoint. Good once: its `jti`
is put among the revocations, which say just that of a JWT, durably and for every process, until it
has ended. That is done last, so that nobody can use up what another has signed.

A refusal costs one lookup and one signature of the kind that the header names, whether the client
is known or not. What is not equal: the microseconds that reading rows takes when there are any, an
RSA key of more than 2048 bits, and several keys of one client that fit, which are tried one after
the other. A client id is 122 random bits, so that who measures these learns of none.

Sources: RFC 7521 §4.2 and §5.2, RFC 7523 §2.2 and §3, RFC 7515 §5.2, RFC 7519 §2, RFC 8725.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeGuard
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import OKPAlgorithm
from jwt.api_jws import PyJWS

from db.contract import Storage
from db.records import JSON, Credential, Revocation, Tenant
from db.revocations import CLOCK_LEEWAY_SECONDS
from gateway.auth.clients import KnownClient, RefusedClient, ban, canonical_uuid
from gateway.auth.jwk import SIGNING_ALGORITHMS, PublicKey, VerifyingKey, verifying_key
from gateway.auth.unproven import ClientAssertion, Unproven

LONGEST_LIFE_SECONDS = 300
_LONGEST_JTI = 255
_PURPOSE = b"agentidp client assertion v1"
_VERSION_8 = 0x8 << 76 | 0b10 << 62
_NOT_THE_VERSION = ~(0xF << 76 | 0b11 << 62)


class AssertionAuthenticator:
    """`issuer` says the issuer identifier of a tenant's slug."""

    def __init__(self, storage: Storage, issuer: Callable[[str], str]) -> None:
        self._storage = storage
        self._issuer = issuer
        self._jws = PyJWS(algorithms=SIGNING_ALGORITHMS)
        # PyJWT knows it by its older name alone.
        self._jws.register_algorithm("Ed25519", OKPAlgorithm())
        self._decoys = _decoys()

    def nobody(self, proof: ClientAssertion) -> None:
        """Costs what the signature of a known client costs."""
        if proof.unproven is not None:
            self._is_signed(proof.unproven, self._decoys[proof.unproven.algorithm])

    async def by_assertion(
        self, tenant: Tenant, proof: ClientAssertion, now: datetime
    ) -> KnownClient | RefusedClient:
        """Who signed it. Raises Unavailable."""
        unproven = proof.unproven
        if unproven is None:
            return RefusedClient(None, "malformed_assertion")
        identifier = canonical_uuid(proof.client_id)
        reader = self._storage.read(tenant.prefix).credentials
        login = await reader.login(identifier, now) if identifier else None
        if login is None:
            self.nobody(proof)
            return RefusedClient(None, "unknown_client")
        agent = login.agent
        fitting = list(_fitting(unproven, login.credentials))
        if not fitting:
            self.nobody(proof)
            return RefusedClient(agent.agent_id, "no_key" if login.credentials else "no_credential")
        signer = next((c for c, key in fitting if self._is_signed(unproven, key.public)), None)
        if signer is None:
            return RefusedClient(agent.agent_id, "wrong_signature")
        if problem := _problem(unproven.claims, proof, self._issuer(tenant.slug), now):
            return RefusedClient(agent.agent_id, problem)
        if banned := ban(tenant, agent):
            return RefusedClient(agent.agent_id, banned)
        if not await self._is_first(tenant, agent.agent_id, unproven.claims, now):
            return RefusedClient(agent.agent_id, "replayed_assertion")
        return KnownClient(agent, signer)

    def _is_signed(self, unproven: Unproven, key: PublicKey) -> bool:
        try:
            self._jws.decode_complete(unproven.text, key, algorithms=[unproven.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        return True

    async def _is_first(
        self, tenant: Tenant, agent_id: UUID, claims: dict[str, JSON], now: datetime
    ) -> bool:
        """Whether it was never shown before; from here on it was. It is remembered for longer than
        it could be good by any process's clock: what has ended is swept an hour later."""
        jti, exp = claims["jti"], claims["exp"]
        assert isinstance(jti, str)
        assert _is_number(exp)
        used = Revocation(_name(agent_id, jti), datetime.fromtimestamp(exp, UTC), now)
        async with self._storage.unit(tenant.prefix) as unit:
            return await unit.revocations.add(used)


def _fitting(
    unproven: Unproven, usable: Sequence[Credential]
) -> Iterator[tuple[Credential, VerifyingKey]]:
    """The keys that its header could mean. A key that has a `kid` is meant by that alone, if the
    header says one; which key it was is for the signature to say."""
    keys = [(each, _key(each)) for each in usable if each.public_key is not None]
    fit = [(c, key) for c, key in keys if key and unproven.algorithm in key.algorithms]
    named = [(c, key) for c, key in fit if unproven.kid is not None and key.kid == unproven.kid]
    for credential, key in named or fit:
        if named or unproven.kid is None or key.kid is None:
            yield credential, key


def _key(credential: Credential) -> VerifyingKey | None:
    try:
        return verifying_key(credential.public_key)
    except ValueError:
        # Kept under rules that were wider than today's: it proves nothing any more.
        return None


def _problem(
    claims: dict[str, JSON], proof: ClientAssertion, issuer: str, now: datetime
) -> str | None:
    """Why what is signed proves nothing, in a word; None when it does."""
    if claims.get("iss") != claims.get("sub"):
        return "wrong_issuer"
    if proof.said not in (None, proof.client_id):
        return "wrong_client_id"
    if claims.get("aud") != issuer:
        return "wrong_audience"
    second = now.timestamp()
    exp, jti = claims.get("exp"), claims.get("jti")
    if not _is_number(exp) or not second < exp:
        return "expired_assertion"
    if exp > second + LONGEST_LIFE_SECONDS + CLOCK_LEEWAY_SECONDS:
        return "long_lived_assertion"
    for name in ("iat", "nbf"):
        begun = claims.get(name, 0)
        if not _is_number(begun) or begun > second + CLOCK_LEEWAY_SECONDS:
            return "early_assertion"
    made = claims.get("iat", exp)
    if not _is_number(made) or made < second - LONGEST_LIFE_SECONDS - CLOCK_LEEWAY_SECONDS:
        return "old_assertion"
    if not isinstance(jti, str) or not 1 <= len(jti) <= _LONGEST_JTI:
        return "no_jti"
    return None


def _is_number(value: JSON) -> TypeGuard[int | float]:
    """A NumericDate may have a fraction, and no NaN comes through."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name(agent_id: UUID, jti: str) -> UUID:
    """What stands for a `jti` of a client's own making among the ids of our tokens. Of another
    version than those, so that no choice of it is ever one of them."""
    digest = hashlib.sha256()
    for part in (_PURPOSE, agent_id.bytes, jti.encode("utf-8", "surrogatepass")):
        digest.update(len(part).to_bytes(8) + part)
    number = int.from_bytes(digest.digest()[:16])
    return UUID(int=number & _NOT_THE_VERSION | _VERSION_8)


def _decoys() -> dict[str, PublicKey]:
    """A key of each kind that nobody has the private half of; what it says is never believed."""
    modulus = secrets.randbits(2048) | 1 << 2047 | 1
    rsa_key = rsa.RSAPublicNumbers(65_537, modulus).public_key()
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key()
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    kinds: dict[str, PublicKey] = {"ES256": p256, "EdDSA": edwards, "Ed25519": edwards}
    return kinds | {"RS256": rsa_key, "PS256": rsa_key}
