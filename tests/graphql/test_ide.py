"""The GraphiQL page: all of it from here, under a policy that lets nothing else in."""

from __future__ import annotations

import hashlib
import re

import httpx
import pytest

from db.settings import Environment
from gateway.settings import GatewaySettings
from tests.gateway import memory_settings, running
from tests.graphql.asking import Asking

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
# As they are in the packages that their names say.
DIGESTS = {
    "graphiql-3.8.3.min.css": "b1868247f8e0502cd869e581f5f3cb55b334862e7f51b1d6cbace11059b9adc2",
    "graphiql-3.8.3.min.js": "22faab94067b695e5f7959619fbe686ebcc8955002a0c97d986bcbba4ad4bc2c",
    "react-18.2.0.min.js": "4b4969fa4ef3594324da2c6d78ce8766fbbc2fd121fff395aedf997db0a99a06",
    "react-dom-18.2.0.min.js": "21758ed084cd0e37e735722ee4f3957ea960628a29dfa6c3ce1a1d47a2d6e4f7",
}


async def page(asking: Asking, accept: str = BROWSER) -> httpx.Response:
    return await asking.running.client.get("/graphql", headers={"accept": accept})


async def test_a_browser_gets_the_page_and_all_its_files_from_here(asking: Asking) -> None:
    answer = await page(asking)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"https?://|//[a-z]", answer.text)
    files = re.findall(r'(?:src|href)="(/[^"]+)"', answer.text)
    assert len(files) == 4
    for path in files:
        file = await asking.running.client.get(path)
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"
        kind = "text/css" if path.endswith(".css") else "text/javascript"
        assert file.headers["content-type"] == f"{kind}; charset=utf-8"
        assert DIGESTS[path.rpartition("/")[2]] == hashlib.sha256(file.content).hexdigest()


async def test_its_policy_allows_its_own_scripts_by_a_nonce_of_this_answer(
    asking: Asking,
) -> None:
    first, second = await page(asking), await page(asking)
    nonces = []
    for answer in (first, second):
        policy = answer.headers["content-security-policy"]
        [nonce] = set(re.findall(r"'nonce-([^']+)'", policy))
        scripts = re.findall(r"<script([^>]*)>", answer.text)
        assert len(scripts) == 4
        assert all(f'nonce="{nonce}"' in each for each in scripts)
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        nonces.append(nonce)
    assert nonces[0] != nonces[1]


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/html"])
async def test_a_program_that_says_nothing_is_told_what_is_missing(
    asking: Asking, accept: str
) -> None:
    answer = await page(asking, accept)
    assert answer.status_code == 400
    assert "query" in answer.json()["errors"][0]["message"]


async def test_a_browser_that_asks_something_is_answered(asking: Asking) -> None:
    answer = await asking.running.client.get(
        "/graphql", params={"query": "{ __typename }"}, headers={"accept": BROWSER}
    )
    assert answer.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "path",
    [
        "/graphql/assets/", "/graphql/assets/nope.js", "/graphql/assets/../ide.py",
        "/graphql/assets/%2e%2e/ide.py", "/graphql/assets/LICENSE.react",
        "/graphql/graphiql-3.8.3.min.js",
    ],
)  # fmt: skip
async def test_there_is_no_other_file(asking: Asking, path: str) -> None:
    answer = await asking.running.client.get(httpx.URL(path))
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_where_it_is_switched_off_there_is_no_page_and_no_file() -> None:
    async with running(memory_settings(graphiql=False)) as started:
        asking = Asking(started, await started.onboard("acme"))
        assert (await page(asking)).status_code == 404
        file = await started.client.get("/graphql/assets/react-18.2.0.min.js")
        assert file.status_code == 404
        assert await asking.data("{ __typename }") == {"__typename": "Query"}


def test_production_serves_it_only_when_told_to() -> None:
    production = {
        "environment": Environment.PRODUCTION,
        "database_url": "postgresql://app@db/x",
        "database_owner_url": "postgresql://owner@db/x",
        "operator_token": "the-operator-of-production-alone",
        "key_encryption_secret": "what-opens-the-keys-of-production",
        "public_url": "https://id.example.com",
    }
    assert not GatewaySettings.load(**production).serve_graphiql
    assert not GatewaySettings.load(**production).allow_introspection
    assert GatewaySettings.load(**production, graphiql=True).serve_graphiql
    assert memory_settings().serve_graphiql
