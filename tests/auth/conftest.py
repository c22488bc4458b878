from __future__ import annotations

import pytest

from tests.auth import forging
from tests.auth.forging import Forge
from tests.gateway import backend, gateway, in_memory
from tests.journeys.mortal import mortal_database, mortal_postgres

__all__ = ["backend", "forge", "gateway", "in_memory", "mortal_database", "mortal_postgres"]


@pytest.fixture(params=forging.ALGORITHMS)
async def forge(request: pytest.FixtureRequest) -> Forge:
    """For each kind of key that signs tokens."""
    return await Forge.of(request.param)
