"""`python -m gateway` in a process of its own, a worker beside it where there is to be one, and a
client that talks to it over a socket."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import canary
from tests.gateway import KEY_ENCRYPTION_SECRET, OPERATOR_TOKEN, Client
from tests.servers.databases import Database
from tests.servers.process import end, launch, tail, wait_until

_ROOT = Path(__file__).parents[2]
_ONBOARD = """
mutation($slug: String!) {
  onboardTenant(input: {slug: $slug, displayName: "Acme", adminEmail: "admin@acme.example"}) {
    ... on TenantOnboarded { tenant { slug status } clientId clientSecret }
    ... on UserError { code message }
  }
}
"""
_STATUS = "query($slug: String!) { tenant(slug: $slug) { status statusReason } }"


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    http: httpx.Client
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = httpx.URL(self.url)
        assert parts.port is not None
        return parts.host, parts.port

    def log(self) -> list[dict[str, Any]]:
        """What the process has said so far: a line that is no JSON object fails the test."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def onboard(self, slug: str = "acme") -> Client:
        """A new tenant, once whoever works has made it; the client is its administrator."""
        client = self.ask_for_tenant(slug)
        wait_until(lambda: self._is_made(slug), self.process, self.output, f"the tenant {slug}")
        return client

    def ask_for_tenant(self, slug: str = "acme") -> Client:
        """As `onboard`, without waiting."""
        made = self.graphql(_ONBOARD, {"slug": slug}, OPERATOR_TOKEN)["data"]["onboardTenant"]
        assert made["tenant"] == {"slug": slug, "status": "PROVISIONING"}
        return Client(slug, made["clientId"], made["clientSecret"])

    def _is_made(self, slug: str) -> bool:
        tenant = self.graphql(_STATUS, {"slug": slug}, OPERATOR_TOKEN)["data"]["tenant"]
        assert tenant["status"] != "FAILED", tenant["statusReason"]
        return bool(tenant["status"] == "ACTIVE")

    def oauth(
        self, client: Client, endpoint: str, form: Mapping[str, str], **headers: str
    ) -> httpx.Response:
        return self.http.post(
            f"/t/{client.slug}/oauth2/{endpoint}",
            data=dict(form),
            auth=(client.client_id, client.secret),
            headers=headers,
        )

    def token(self, client: Client) -> str:
        answer = self.oauth(client, "token", {"grant_type": "client_credentials"})
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def graphql(
        self, document: str, variables: Mapping[str, Any] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        answer = self.http.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"authorization": f"Bearer {token}"} if token else {},
        )
        body: dict[str, Any] = answer.json()
        return body

    def terminate(self) -> int:
        """The exit status after SIGTERM."""
        return end(self.process, signal.SIGTERM)


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Served]:
    """A gateway that is ready, with `environment` and nothing else of this machine's; `folder`
    keeps its output."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    output = folder / f"gateway-{port}.log"
    with output.open("wb") as log:
        process = launch(
            [sys.executable, "-m", "gateway"],
            output=log,
            environment={
                "PORT": str(port),
                "OPERATOR_TOKEN": OPERATOR_TOKEN,
                "KEY_ENCRYPTION_SECRET": KEY_ENCRYPTION_SECRET,
                "BCRYPT_COST": "10",
                **environment,
            },
            folder=_ROOT,
        )
    # A proxy of this machine is not for what runs on it.
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:

        def ready() -> bool:
            try:
                return http.get("/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(ready, process, output, "the gateway")
            yield Served(url, http, process, output)
        finally:
            end(process, signal.SIGTERM)
        assert canary.secrets_in(output.read_text()) == [], "the gateway's log holds secrets"


@contextmanager
def working(folder: Path, **environment: str) -> Iterator[None]:
    """A worker, in the same environment as its gateway."""
    output = folder / "worker.log"
    with output.open("wb") as log:
        command = [sys.executable, "-m", "workers"]
        process = launch(command, output=log, environment=environment, folder=_ROOT)
    try:
        yield
        assert process.poll() is None, tail(output)
        assert canary.secrets_in(output.read_text()) == [], "the worker's log holds secrets"
    finally:
        assert end(process, signal.SIGTERM) == 0, tail(output)


def on_postgres(database: Database, redis_url: str) -> dict[str, str]:
    """The environment of the production shape."""
    return {
        "DATABASE_URL": database.app_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "REDIS_URL": redis_url,
    }
