from __future__ import annotations

import pytest

from tests.gateway import RunningGateway, backend, gateway, in_memory
from tests.journeys.mortal import mortal_database, mortal_postgres
from tests.oauth.asking import Asking

__all__ = [
    "asking",
    "backend",
    "gateway",
    "in_memory",
    "mortal_database",
    "mortal_postgres",
    "stored",
]


@pytest.fixture
async def asking(in_memory: RunningGateway) -> Asking:
    """With the tenant `acme`, in memory."""
    return Asking(in_memory, await in_memory.onboard("acme"))


@pytest.fixture
async def stored(gateway: RunningGateway) -> Asking:
    """The same, on either backend."""
    return Asking(gateway, await gateway.onboard("acme"))
