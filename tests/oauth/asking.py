"""A client of the OAuth endpoints that can also write what no client library would send."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack
from urllib.parse import urlencode

import httpx

from tests.gateway import Client, RunningGateway

FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}

Pairs = Mapping[str, str] | Sequence[tuple[str, str]]


class How(TypedDict, total=False):
    """What of a request differs from the ordinary one."""

    slug: str
    client: Client
    authorization: str | None
    content_type: str | None
    query: str


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks in the name of `admin`, the administrator of `acme`, unless told otherwise."""

    running: RunningGateway
    admin: Client

    async def token(self, form: Pairs | bytes = (), **how: Unpack[How]) -> httpx.Response:
        return await self.post("token", form, **how)

    async def introspect(self, token: str, **how: Unpack[How]) -> httpx.Response:
        return await self.post("introspect", {"token": token}, **how)

    async def revoke(self, token: str, **how: Unpack[How]) -> httpx.Response:
        return await self.post("revoke", {"token": token}, **how)

    async def active(self, token: str, **how: Unpack[How]) -> bool:
        """What an introspection by the administrator says."""
        answer = await self.introspect(token, **how)
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["active"])

    async def post(self, endpoint: str, form: Pairs | bytes, **how: Unpack[How]) -> httpx.Response:
        """`authorization` is sent as it stands and not at all for None; by default it is the
        client's own, by HTTP Basic."""
        client = how.get("client", self.admin)
        headers = {
            "authorization": how.get("authorization", basic(client.client_id, client.secret)),
            "content-type": how.get("content_type", FORM),
        }
        return await self.running.client.post(
            f"/t/{how.get('slug', 'acme')}/oauth2/{endpoint}{how.get('query', '')}",
            content=form if isinstance(form, bytes) else urlencode(form).encode(),
            headers={name: value for name, value in headers.items() if value is not None},
        )


def basic(user: str, password: str) -> str:
    """Both as they stand: the suite's own ids and secrets need no form encoding."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def in_body(client: Client) -> dict[str, str]:
    return {"client_id": client.client_id, "client_secret": client.secret}


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which is JSON and kept by no cache (RFC 6749 §5.2)."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    described = body["error_description"]
    assert described.isascii()
    assert described.isprintable()
    assert not set('"\\') & set(described)
    return answer.status_code, body["error"]
