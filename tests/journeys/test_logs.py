"""What the process says: one JSON object a line, under the request's id, and no secret in any."""

from __future__ import annotations

import base64
from pathlib import Path
from uuid import UUID

from tests.gateway import KEY_ENCRYPTION_SECRET, OPERATOR_TOKEN
from tests.journeys.served import Served, on_postgres, serving, working
from tests.servers.databases import Database
from tests.servers.postgres import Postgres

CANARY = "canary-0a7f"
GRANT = {"grant_type": "client_credentials"}


def provoke(served: Served) -> list[str]:
    """Every way that we know to get a secret into a log; what must not be there."""
    admin = served.onboard()
    token = served.token(admin)
    http = served.http
    pasted = (f"{CANARY}-id", f"{CANARY}-secret")
    http.post("/t/acme/oauth2/token", data=GRANT, auth=pasted)
    http.post("/t/acme/oauth2/token", data={**GRANT, "scope": f"{CANARY}:scope"})
    http.post("/t/acme/oauth2/token", data={"grant_type": CANARY})
    http.post(f"/t/acme/oauth2/token?client_secret={CANARY}", data=GRANT)
    http.post("/t/acme/oauth2/token", content=f"client_secret={CANARY}%zz".encode())
    http.post("/t/acme/oauth2/token", json={"client_secret": CANARY})
    served.oauth(admin, "introspect", {"token": f"{token}{CANARY}"})
    served.oauth(admin, "revoke", {"token": token})
    for scheme in ("Basic", "Bearer", "Digest"):
        headers = {"authorization": f"{scheme} {CANARY}"}
        http.post("/t/acme/oauth2/introspect", data={"token": CANARY}, headers=headers)
        http.post("/graphql", json={"query": "{ viewer { email } }"}, headers=headers)
    for query in (
        f'{{ viewer(secret: "{CANARY}") {{ email }} }}',
        f'{{ agent(agentId: "{CANARY}") {{ email }} }}',
        f'{{ agentByEmail(email: "{CANARY}") {{ email }} }}',
        f"{{ {CANARY} ",
        f'mutation {{ issueToken(input: {{tenant: "acme", clientId: "{CANARY}", '
        f'clientSecret: "{CANARY}"}}) {{ __typename }} }}',
    ):
        served.graphql(query, token=served.token(admin))
        served.graphql(query, {"secret": CANARY})
    http.post("/graphql", content=f'{{"query": "{CANARY}'.encode())
    http.get("/graphql", params={"query": f'{{ __typename }} "{CANARY}"'})
    http.get("/nothing-here", headers={"cookie": CANARY, "x-request-id": f"{CANARY} x"})
    basic = base64.b64encode(f"{admin.client_id}:{admin.secret}".encode()).decode()
    return [CANARY, admin.secret, basic, token, OPERATOR_TOKEN, KEY_ENCRYPTION_SECRET, "$2b$"]


def test_every_line_is_json_and_no_secret_is_in_any(served: Served) -> None:
    secrets = provoke(served)
    metrics = served.http.get("/metrics").text
    assert "agentidp_" in metrics
    assert [secret for secret in secrets if secret in metrics] == []
    assert served.terminate() == 0
    lines = served.log()
    assert len([line for line in lines if line["event"] == "request"]) > 20
    for line in lines:
        assert {"event", "level", "timestamp"} <= set(line)
    said = served.output.read_text()
    assert [secret for secret in secrets if secret in said] == []


def test_every_request_is_one_line_under_the_id_of_its_answer(served_in_memory: Served) -> None:
    admin = served_in_memory.onboard()
    sent = served_in_memory.oauth(admin, "token", GRANT, **{"x-request-id": "journey-1"})
    assert sent.headers["x-request-id"] == "journey-1"
    made = served_in_memory.http.post("/graphql", json={"query": "{ __typename }"})
    UUID(made.headers["x-request-id"])
    assert served_in_memory.terminate() == 0
    requests = {
        line["request_id"]: line for line in served_in_memory.log() if line["event"] == "request"
    }
    line = requests["journey-1"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/t/acme/oauth2/token", 200)
    assert line["ms"] > 0
    assert (line["tenant"], line["agent"]) == ("acme", admin.client_id)
    assert requests[made.headers["x-request-id"]]["path"] == "/graphql"


def test_an_outage_is_told_without_the_address_of_what_is_out(
    mortal_postgres: Postgres, mortal_database: Database, tmp_path: Path
) -> None:
    """Addresses hold passwords, of the database and of the cache."""
    environment = on_postgres(mortal_database, f"redis://:{CANARY}-cache@127.0.0.1:1/0")
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL"):
        user, rest = environment[name].removeprefix("postgresql://").split("@")
        user = user.split(":")[0]
        environment[name] = f"postgresql://{user}:{CANARY}-database@{rest}"
    with serving(tmp_path, **environment) as served:
        # A worker finds what is due without the cache's help too.
        with working(tmp_path, **environment):
            admin = served.onboard()
        token = served.token(admin)
        ready = served.http.get("/health/ready")
        mortal_postgres.kill()
        try:
            answers = [
                served.oauth(admin, "token", GRANT),
                served.http.get("/health/ready"),
                served.http.post(
                    "/graphql",
                    json={"query": "{ viewer { email } }"},
                    headers={"authorization": f"Bearer {token}"},
                ),
            ]
        finally:
            mortal_postgres.start()
        assert (ready.status_code, ready.json()["cache"]) == (200, "unavailable")
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        for answer in answers:
            assert CANARY not in answer.text
            assert "127.0.0.1" not in answer.text
            assert "5432" not in answer.text
        assert served.token(admin)
        assert served.terminate() == 0
        assert served.log()
        for output in tmp_path.glob("*.log"):
            assert CANARY not in output.read_text()
