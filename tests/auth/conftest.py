from __future__ import annotations

import asyncio

import pytest

from db.memory.storage import MemoryStorage
from gateway.auth.keys import load_keys
from gateway.auth.tokens import TokenAuthority
from tests.auth import forging
from tests.auth.forging import NOW, TTL, Forge
from tests.gateway import PUBLIC_URL, backend, gateway, in_memory, memory_settings

__all__ = ["backend", "forge", "gateway", "in_memory"]


@pytest.fixture
def forge() -> Forge:
    key = forging.new_key()
    settings = memory_settings(signing_keys=forging.pem(key))
    keys = asyncio.run(load_keys(settings, MemoryStorage(), NOW))
    authority = TokenAuthority(keys, PUBLIC_URL, TTL)
    return Forge(authority, key, {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing.kid})
