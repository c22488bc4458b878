from __future__ import annotations

import pytest

from tests.gateway import RunningGateway, backend, gateway, in_memory
from tests.graphql.asking import Asking
from tests.journeys.mortal import mortal_database, mortal_postgres

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
    """The administrator of `acme`, in memory."""
    return await _administrator(in_memory)


@pytest.fixture
async def stored(gateway: RunningGateway) -> Asking:
    """The same, on either backend."""
    return await _administrator(gateway)


async def _administrator(running: RunningGateway) -> Asking:
    admin = await running.onboard("acme")
    return Asking(running, admin, await running.token(admin))
