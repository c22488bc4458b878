from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import in_memory
from tests.journeys.mortal import mortal_database, mortal_postgres
from tests.journeys.served import Served, on_postgres, serving, working

__all__ = ["in_memory", "mortal_database", "mortal_postgres", "served", "served_in_memory"]


@pytest.fixture(params=["memory", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A gateway process on each backend: one that is alone, and one with a worker beside it."""
    if request.param == "memory":
        with serving(tmp_path) as started:
            yield started
        return
    environment = on_postgres(
        request.getfixturevalue("empty_database"), request.getfixturevalue("redis_url")
    )
    with serving(tmp_path, **environment) as started, working(tmp_path, **environment):
        yield started


@pytest.fixture
def served_in_memory(tmp_path: Path) -> Iterator[Served]:
    """For what is the same whatever is stored."""
    with serving(tmp_path) as started:
        yield started
