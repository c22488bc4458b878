"""Whoever asks the gateways: what is sent, and what an answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from tests.faults.ledger import Check, Ledger, Token, Verdict
from tests.gateway import OPERATOR_TOKEN, Client

VIEWER = "/graphql"
INTROSPECT = "oauth2/introspect"
WAYS = (VIEWER, INTROSPECT)
LATER = frozenset({"UNAVAILABLE", "TIMEOUT"})
_VIEWER = "{ viewer { agentId } }"
_TIMEOUT = 20  # seconds: longer than a gateway takes to give a request up


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is empty where it is no JSON object; `status` is 0 when there was no answer."""

    status: int
    body: Mapping[str, Any]

    @property
    def fault(self) -> str | None:
        """The code of what GraphQL has in `errors[]`."""
        errors = self.body.get("errors")
        return str(errors[0].get("extensions", {}).get("code")) if errors else None

    @property
    def later(self) -> bool:
        """It may be asked again, and nothing is known."""
        return self.status in (0, 503) or self.fault in LATER

    def __str__(self) -> str:
        return f"{self.status} {self.fault or ''} {self.body.get('error', '')}".strip()


class Gateways:
    """All of them by number; what is asked of them is written down in `ledger`."""

    def __init__(self, urls: list[str], ledger: Ledger, random: Random) -> None:
        self.ledger = ledger
        self.numbers = range(len(urls))
        self._random = random
        limits = httpx.Limits(max_connections=100)
        self._http = [
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=_TIMEOUT, limits=limits)
            for url in urls
        ]

    async def close(self) -> None:
        await asyncio.gather(*(http.aclose() for http in self._http))

    def any(self) -> int:
        return self._random.choice(self.numbers)

    async def graphql(
        self, gateway: int, document: str, variables: Mapping[str, Any], token: str | None
    ) -> Answer:
        return await self._send(
            gateway,
            "/graphql",
            headers={"authorization": f"Bearer {token}"} if token else {},
            json={"query": document, "variables": variables},
        )

    async def operate(self, gateway: int, document: str, variables: Mapping[str, Any]) -> Answer:
        return await self.graphql(gateway, document, variables, OPERATOR_TOKEN)

    async def oauth(self, gateway: int, slug: str, endpoint: str, token: str, by: str) -> Answer:
        return await self._send(
            gateway,
            f"/t/{slug}/oauth2/{endpoint}",
            headers={"authorization": f"Bearer {by}"},
            data={"token": token},
        )

    async def login(self, gateway: int, client: Client, keeper: str | None) -> Token | None:
        """None while it is refused, or there is no answer. From an address of its own: those that
        are refused on purpose here must not use up what the others may fail."""
        address = ".".join(str(self._random.randrange(1, 255)) for _ in range(3))
        answer = await self._send(
            gateway,
            f"/t/{client.slug}/oauth2/token",
            headers={"x-forwarded-for": f"10.{address}"},
            data={"grant_type": "client_credentials"},
            auth=(client.client_id, client.secret),
        )
        if answer.status == 200:
            return Token(answer.body["access_token"], client.slug, keeper)
        if not (answer.later or answer.status in (400, 401, 404)):
            self.ledger.unexpected.append(f"login: {answer}")
        return None

    async def check(self, token: Token, gateway: int, way: str) -> Check:
        began, known = time.monotonic(), token.is_gone
        if way == VIEWER:
            verdict = self._of_viewer(await self.graphql(gateway, _VIEWER, {}, token.text))
        else:
            by = token.keeper or token.text
            answer = await self.oauth(gateway, token.slug, "introspect", token.text, by)
            verdict = self._of_introspection(answer, alone=token.keeper is None)
        check = Check(token, gateway, way, began, known, token.is_whole, verdict)
        self.ledger.note(check)
        return check

    async def readiness(self, gateway: int) -> str:
        """`warm`, `cold`, or that there was no answer to that."""
        answer = await self._send(gateway, "/health/ready", method="GET")
        return str(answer.body.get("revocations", "silent"))

    def _of_viewer(self, answer: Answer) -> Verdict:
        if answer.later:
            return Verdict.UNAVAILABLE
        if answer.fault == "UNAUTHENTICATED":
            return Verdict.REFUSED
        if answer.status != 200 or answer.fault:
            self.ledger.unexpected.append(f"viewer: {answer}")
            return Verdict.UNAVAILABLE
        return Verdict.ACCEPTED

    def _of_introspection(self, answer: Answer, *, alone: bool) -> Verdict:
        """`alone`: asked by the token itself, so that it is refused as the caller; and a tenant
        that is suspended is not there at all."""
        if answer.later:
            return Verdict.UNAVAILABLE
        if alone and answer.status in (401, 404):
            return Verdict.REFUSED
        if answer.status != 200 or "active" not in answer.body:
            self.ledger.unexpected.append(f"introspect: {answer}")
            return Verdict.UNAVAILABLE
        return Verdict.ACCEPTED if answer.body["active"] else Verdict.REFUSED

    async def _send(
        self, gateway: int, path: str, *, method: str = "POST", **content: Any
    ) -> Answer:
        try:
            answer = await self._http[gateway].request(method, path, **content)
        except httpx.TransportError:
            return Answer(0, {})
        try:
            body = answer.json()
        except ValueError:
            body = {}
        return Answer(answer.status_code, body if isinstance(body, dict) else {})
