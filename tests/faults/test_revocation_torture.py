"""Revoked stays revoked, on every gateway, from the instant that somebody was told so: while the
cache is emptied, killed, stalled, filled, replaced and cut off, and PostgreSQL restarted.

The short run is part of the suite. The long one, of so many checks:

    pytest tests/faults/test_revocation_torture.py --torture-checks=30000
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Program
from tests.faults.ledger import Ledger, Verdict, Wait
from tests.faults.torture import tortured
from tests.servers.databases import Database, Databases
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

SEED = 4
TRIES = 10  # the worker may be quicker once
LEAST_CUTS = 40
KINDS = {
    "token revoked at oauth2/revoke",
    "token revoked by revokeToken",
    "credential revoked",
    "agent suspended",
    "agent decommissioned",
    "agent's kill switch engaged",
    "tenant suspended",
    "tenant's kill switch engaged",
}
GRACE = 2.0  # seconds after an outage of PostgreSQL, in which connections are made again
OF_POSTGRES = {"postgres_restarted", "postgres_crashed"}


@pytest.fixture
def wanted(request: pytest.FixtureRequest) -> int:
    """So many checks at the least."""
    return int(request.config.getoption("--torture-checks"))


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that may be restarted, and that keeps what it has committed when it is killed: the
    others write it down a moment later."""
    with temporary_place() as room:
        server = Postgres(room / "postgres", options={"synchronous_commit": "on"})
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_database(own_postgres: Postgres) -> Database:
    return Databases(own_postgres.url(), disposable=True).create()


def test_what_was_acknowledged_as_cut_off_is_never_accepted_again(
    own_postgres: Postgres,
    own_database: Database,
    tmp_path: Path,
    wanted: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with tortured(tmp_path, own_database, seed=SEED, gateways=3, postgres=own_postgres) as torture:
        ledger = torture.ledger
        # Or it would not be the cache that is put to the test.
        alone = torture.without_revocations(own_database.owner_url)
        while not ledger.outages or ledger.checks < wanted:
            torture.round()
        torture.settle()
    with capsys.disabled():
        print(f"\n{ledger.report()}")

    assert alone == [Verdict.ACCEPTED] * 6
    assert ledger.accepted_after == []
    assert ledger.refused_wrongly == []
    assert ledger.unexpected == []
    assert [wait for wait in ledger.waits if not _is_excused(wait, ledger)] == []
    # And that this was worth something.
    assert set(ledger.faults) == set(torture.blows.all)
    assert set(ledger.acknowledged) == KINDS
    assert ledger.refused_after > wanted / 4
    assert ledger.acknowledged.total() >= LEAST_CUTS
    assert ledger.put_off.total() > 0
    assert ledger.raced > 0
    assert ledger.warmth["warm"] > ledger.warmth.total() / 4
    assert ledger.warmth["cold"] > 0


@pytest.mark.parametrize(
    ("broken", "blow"), [("credulous", "flushed"), ("by-presence", "stale_dump")]
)
def test_a_gateway_that_takes_the_cache_at_its_word_is_found_out(
    empty_database: Database, tmp_path: Path, broken: str, blow: str
) -> None:
    program = Program("tests.faults.gateway", (broken,))
    with tortured(tmp_path, empty_database, seed=SEED, gateways=2, program=program) as torture:
        torture.until_acknowledged(3)
        assert torture.ledger.accepted_after == []
        for _ in range(TRIES):
            torture.strike(blow)
            if torture.ledger.accepted_after:
                break

    assert torture.ledger.accepted_after != []


def _is_excused(wait: Wait, ledger: Ledger) -> bool:
    """Without PostgreSQL nobody is let in; and that is all that may keep anybody out."""
    return any(
        wait.beyond(outage) <= GRACE for outage in ledger.outages if outage.kind in OF_POSTGRES
    )
