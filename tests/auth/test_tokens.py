"""Tokens as they are issued, and the keys that verify them while others take their place."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import jwt
import pytest

from db.errors import Unauthenticated
from db.memory.storage import MemoryStorage
from db.records import (
    Agent,
    AgentStatus,
    AgentType,
    Credential,
    CredentialStatus,
    DeploymentEnv,
    Tenant,
    TenantStatus,
)
from gateway.auth.keyring import load_keys
from gateway.auth.tokens import TokenAuthority
from tests.auth import forging
from tests.auth.forging import ISSUER, NOW, SECOND, TTL, Forge
from tests.gateway import PUBLIC_URL, memory_settings


def records() -> tuple[Tenant, Agent, Credential]:
    tenant = Tenant("acme", "Acme", TenantStatus.ACTIVE, NOW, NOW, token_generation=3)
    agent = Agent(
        uuid4(), "a@b.example", AgentType.CUSTOM, "1.0.0", ("agents:read",), "o",
        DeploymentEnv.DEVELOPMENT, AgentStatus.ACTIVE, NOW, NOW, token_generation=7,
    )  # fmt: skip
    return tenant, agent, Credential(uuid4(), agent.agent_id, "", CredentialStatus.ACTIVE, NOW)


async def test_an_issued_token_verifies_to_what_was_put_in(forge: Forge) -> None:
    tenant, agent, credential = records()
    issued = await forge.authority.issue(tenant, agent, credential, "agents:read", [], NOW)
    claims = await forge.authority.verify(issued.access_token, NOW)
    assert (claims.sub, claims.client_id) == (agent.agent_id, agent.agent_id)
    assert (claims.iss, claims.aud, claims.slug) == (ISSUER, ISSUER, "acme")
    assert (claims.iat, claims.nbf, claims.exp) == (SECOND, SECOND, SECOND + TTL)
    assert (claims.jti, claims.credential_id) == (issued.jti, credential.credential_id)
    assert claims.scopes == {"agents:read"}
    assert claims.gen == (7, 3)
    assert issued.expires_at == claims.expires_at == datetime.fromtimestamp(SECOND + TTL, UTC)
    assert issued.expires_in == TTL
    assert claims.kid == forge.header["kid"]


async def test_an_issued_token_is_what_other_libraries_take_for_one(forge: Forge) -> None:
    """With nothing but the published key set."""
    tenant, agent, credential = records()
    issued = await forge.authority.issue(tenant, agent, credential, "agents:read", ["a:b"], NOW)
    header = jwt.get_unverified_header(issued.access_token)
    assert header == forge.header
    [jwk] = jwt.PyJWKSet.from_json(forge.jwks.decode()).keys
    assert (jwk.key_id, jwk.algorithm_name) == (header["kid"], header["alg"])
    # The suite's instant is not the library's, which reads a clock of its own.
    said = jwt.decode(
        issued.access_token,
        jwk,
        [header["alg"]],
        {"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        audience="a:b",
        issuer=ISSUER,
    )
    assert set(said) == set(forge.claims)
    assert (said["sub"], said["jti"]) == (str(agent.agent_id), str(issued.jti))
    assert (said["gen"], said["exp"]) == ([7, 3], SECOND + TTL)


class TestRotation:
    async def test_every_key_of_the_ring_verifies_and_the_first_signs(self) -> None:
        old, new = forging.new_key(), forging.new_key()
        before = await self.authority(old)
        during = await self.authority(new, old)
        after = await self.authority(new)
        old_token, new_token = await self.issued(before), await self.issued(during)
        for authority, token in (
            (before, old_token), (during, old_token), (during, new_token), (after, new_token),
        ):  # fmt: skip
            assert (await authority.verify(token, NOW)).slug == "acme"
        for authority, token in ((before, new_token), (after, old_token)):
            with pytest.raises(Unauthenticated):
                await authority.verify(token, NOW)

    async def test_keys_of_all_kinds_stand_beside_each_other(self) -> None:
        keys = [forging.key_for(algorithm) for algorithm in forging.ALGORITHMS]
        together = await self.authority(*keys)
        for key in keys:
            token = await self.issued(await self.authority(key))
            assert (await together.verify(token, NOW)).kid == forging.kid_of(key)
        # Each by its own alone: the name of another does not help.
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": forging.kid_of(keys[0])}
        forge = await Forge.of("EdDSA")
        forged = forging.signed(keys[2], header, forge.claims)
        with pytest.raises(Unauthenticated):
            await together.verify(forged, NOW)

    async def authority(self, *keys: forging.PrivateKey) -> TokenAuthority:
        settings = memory_settings(signing_keys="\n".join(map(forging.pem, keys)))
        return TokenAuthority(await load_keys(settings, MemoryStorage(), NOW), PUBLIC_URL, TTL)

    async def issued(self, authority: TokenAuthority) -> str:
        tenant, agent, credential = records()
        return (await authority.issue(tenant, agent, credential, "a:b", [], NOW)).access_token
