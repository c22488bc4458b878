"""Tokens as they are issued, and the keys that verify them while others take their place."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

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
from gateway.auth.keys import load_keys
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


def test_an_issued_token_verifies_to_what_was_put_in(forge: Forge) -> None:
    tenant, agent, credential = records()
    issued = forge.authority.issue(tenant, agent, credential, "agents:read", [], NOW)
    claims = forge.authority.verify(issued.access_token, NOW)
    assert (claims.sub, claims.client_id) == (agent.agent_id, agent.agent_id)
    assert (claims.iss, claims.aud, claims.slug) == (ISSUER, ISSUER, "acme")
    assert (claims.iat, claims.nbf, claims.exp) == (SECOND, SECOND, SECOND + TTL)
    assert (claims.jti, claims.credential_id) == (issued.jti, credential.credential_id)
    assert claims.scopes == {"agents:read"}
    assert claims.gen == (7, 3)
    assert issued.expires_at == claims.expires_at == datetime.fromtimestamp(SECOND + TTL, UTC)
    assert issued.expires_in == TTL


class TestRotation:
    async def test_every_key_of_the_ring_verifies_and_the_first_signs(self) -> None:
        old, new = forging.new_key(), forging.new_key()
        before = await self.authority(old)
        during = await self.authority(new, old)
        after = await self.authority(new)
        old_token, new_token = self.issued(before), self.issued(during)
        assert before.verify(old_token, NOW).jti
        assert during.verify(old_token, NOW).jti
        assert during.verify(new_token, NOW).jti
        assert after.verify(new_token, NOW).jti
        for authority, token in ((before, new_token), (after, old_token)):
            with pytest.raises(Unauthenticated):
                authority.verify(token, NOW)

    async def authority(self, *keys: ec.EllipticCurvePrivateKey) -> TokenAuthority:
        settings = memory_settings(signing_keys="\n".join(map(forging.pem, keys)))
        return TokenAuthority(await load_keys(settings, MemoryStorage(), NOW), PUBLIC_URL, TTL)

    def issued(self, authority: TokenAuthority) -> str:
        tenant, agent, credential = records()
        return authority.issue(tenant, agent, credential, "a:b", [], NOW).access_token
