"""The tenant that `make stack` begins with, onboarded as any operator would: over GraphQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

SLUG = "demo"

_STATUS = "query($slug: String!) { tenant(slug: $slug) { status statusReason } }"
_ONBOARD = """
mutation($slug: String!) {
  onboardTenant(input: {slug: $slug, displayName: "Demo", adminEmail: "admin@demo.example"}) {
    ... on TenantOnboarded { clientId clientSecret }
    ... on UserError { code message }
  }
}
"""
_POLL = 0.05  # seconds


class GatewayRefused(RuntimeError):
    """The gateway answered, and not as it should."""


class DemoTenant:
    """Talks to the gateway at `url` as its operator; `alive` raises when it cannot answer."""

    def __init__(self, url: str, operator_token: str, alive: Callable[[float], None]) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {operator_token}"},
            timeout=60,
            # A proxy of this machine is not for what runs on it.
            trust_env=False,
        )
        self._alive = alive

    def close(self) -> None:
        self._http.close()

    def wait_for_gateway(self, seconds: float = 60) -> None:
        self._wait(self._ready, seconds, "the gateway is not ready")

    def wait_until_active(self, seconds: float = 60) -> None:
        """A worker makes it. Raises GatewayRefused, at once when that has been given up."""
        self._wait(self._active, seconds, f"tenant {SLUG} is not active")

    def exists(self) -> bool:
        return self._found() is not None

    def onboard(self) -> tuple[str, str]:
        """The client id and secret of its administrator, which nobody can ask for again."""
        made = self._ask(_ONBOARD)["onboardTenant"]
        if "clientSecret" not in made:
            raise GatewayRefused(f"onboarding {SLUG}: {made}")
        return made["clientId"], made["clientSecret"]

    def _active(self) -> bool:
        found = self._found() or {}
        if found.get("status") == "FAILED":
            raise GatewayRefused(f"tenant {SLUG} could not be made: {found['statusReason']}")
        return found.get("status") == "ACTIVE"

    def _found(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._ask(_STATUS)["tenant"]
        return found

    def _ready(self) -> bool:
        try:
            return self._http.get("/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _wait(self, done: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self._alive(_POLL)
            if time.monotonic() > deadline:
                raise GatewayRefused(f"{problem} after {seconds:g} s")

    def _ask(self, document: str) -> dict[str, Any]:
        try:
            answer = self._http.post(
                "/graphql", json={"query": document, "variables": {"slug": SLUG}}
            ).json()
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayRefused(f"the gateway does not answer: {error!r}") from error
        if answer.get("errors"):
            raise GatewayRefused(f"the gateway refused: {answer['errors']}")
        found: dict[str, Any] = answer["data"]
        return found
