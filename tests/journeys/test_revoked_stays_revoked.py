"""A token that was refused once is refused for ever, whatever is stopped, emptied or started."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.journeys.served import Served, on_postgres, serving, working
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey

# Of every gateway process here, or a second one would not know the first one's tokens.
ISSUER = {"PUBLIC_URL": "http://127.0.0.1:8000"}
ELSEWHERE = {"REDIS_URL": "redis://127.0.0.1:1/0"}


def accepted(served: Served, token: str, by: str) -> bool:
    """To both that could be asked, which must agree; `by` is the token that asks."""
    viewer = served.graphql("{ viewer { agentId } }", token=token)
    found = served.http.post(
        "/t/acme/oauth2/introspect",
        data={"token": token},
        headers={"authorization": f"Bearer {by}"},
    ).json()
    assert found["active"] == ("errors" not in viewer)
    return bool(found["active"])


def test_through_an_emptied_a_restarted_and_a_missing_cache_and_a_new_gateway(
    empty_database: Database, tmp_path: Path
) -> None:
    with temporary_place() as room:
        home = room / "valkey"
        home.mkdir(mode=0o700)
        cache = Valkey(home)
        cache.start()
        environment = {**on_postgres(empty_database, cache.url()), **ISSUER}
        try:
            with serving(tmp_path, **environment) as served:
                # By a worker that knows of another cache: what is in this one is seen to below.
                with working(tmp_path, **environment | ELSEWHERE):
                    admin = served.onboard()
                revoked, live = served.token(admin), served.token(admin)
                assert accepted(served, revoked, live)
                assert served.oauth(admin, "revoke", {"token": revoked}).status_code == 200

                def holds(through: Served = served) -> bool:
                    return accepted(through, live, live) and not accepted(through, revoked, live)

                assert holds()
                with redis.Redis.from_url(cache.url()) as connection:
                    assert len(list(connection.scan_iter("{acme}:*"))) == 1
                    connection.flushall()
                assert holds()
                cache.stop()
                cache.start()
                assert holds()
                cache.kill()
                assert holds()
                # Revoked while the cache is away: it is remembered where it counts, and promised
                # once everybody can know.
                during = served.token(admin)
                promised = served.oauth(admin, "revoke", {"token": during})
                assert promised.status_code == 503
                assert int(promised.headers["retry-after"]) > 0
                assert not accepted(served, during, live)
                cache.start()
                assert not accepted(served, during, live)
                assert served.oauth(admin, "revoke", {"token": during}).status_code == 200
                assert not accepted(served, during, live)
            with serving(tmp_path, **environment) as again:
                assert holds(again)
                assert not accepted(again, during, live)
        finally:
            cache.stop()


def test_two_gateways_agree_at_once(
    empty_database: Database, redis_url: str, tmp_path: Path
) -> None:
    environment = {**on_postgres(empty_database, redis_url), **ISSUER}
    with (
        serving(tmp_path, **environment) as one,
        serving(tmp_path, **environment) as other,
        working(tmp_path, **environment),
    ):
        admin = one.onboard()
        token, live = other.token(admin), one.token(admin)
        assert accepted(one, token, live)
        assert one.oauth(admin, "revoke", {"token": token}).status_code == 200
        assert not accepted(other, token, live)
        assert not accepted(one, token, live)
