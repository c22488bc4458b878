"""What a client finds out before it asks for anything: the keys and the metadata."""

from __future__ import annotations

import pytest

from tests.gateway import PUBLIC_URL, memory_settings, running
from tests.oauth.asking import GRANT, Asking, error_of, in_body
from tests.oauth.signing import enrolled, present

JWKS = "/t/acme/.well-known/jwks.json"
METADATA = "/.well-known/oauth-authorization-server/t/acme"
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"]

# RFC 8414 §2, as far as a server without users has use for it.
REGISTERED = {
    "issuer", "token_endpoint", "jwks_uri", "scopes_supported", "response_types_supported",
    "grant_types_supported", "service_documentation",
    *(f"{endpoint}_endpoint" for endpoint in ("introspection", "revocation")),
    *(
        f"{endpoint}_endpoint_auth_{what}_supported"
        for endpoint in ("token", "introspection", "revocation")
        for what in ("methods", "signing_alg_values")
    ),
}  # fmt: skip


async def test_the_key_set_holds_public_halves_alone(stored: Asking) -> None:
    answer = await stored.running.client.get(JWKS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    [key] = answer.json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


async def test_the_metadata_says_what_the_server_can_do(stored: Asking) -> None:
    answer = await stored.running.client.get(METADATA)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    issuer = f"{PUBLIC_URL}/t/acme"
    assert answer.json() == {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth2/token",
        "introspection_endpoint": f"{issuer}/oauth2/introspect",
        "revocation_endpoint": f"{issuer}/oauth2/revoke",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": [*METHODS, "Bearer"],
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "scopes_supported": [
            "agents:read", "agents:write", "audit:read", "audit:write",
            "credentials:read", "credentials:write", "tokens:read", "tokens:write",
        ],
    }  # fmt: skip


async def test_every_algorithm_that_the_metadata_names_is_taken(asking: Asking) -> None:
    """And every member is one that is registered for this document."""
    found = (await asking.running.client.get(METADATA)).json()
    for algorithm in found["token_endpoint_auth_signing_alg_values_supported"]:
        signer = await enrolled(asking, algorithm)
        assert (await present(asking, signer.assertion())).status_code == 200
    assert not set(found) - REGISTERED


async def test_an_empty_list_is_left_out_unless_it_is_required(asking: Asking) -> None:
    """RFC 8414 §3.2 and §2: there is one such member, and clients look for what is required."""
    found = (await asking.running.client.get(METADATA)).json()
    empty = [name for name, value in found.items() if value in ([], None, "")]
    assert empty == ["response_types_supported"]


async def test_a_client_that_follows_the_metadata_gets_a_token_and_revokes_it(
    stored: Asking,
) -> None:
    client = stored.running.client
    found = (await client.get(METADATA)).json()
    assert (await client.get(found["jwks_uri"])).json()["keys"]
    form = in_body(stored.admin)
    token = (await client.post(found["token_endpoint"], data={**GRANT, **form})).json()[
        "access_token"
    ]
    form["token"] = token
    assert (await client.post(found["introspection_endpoint"], data=form)).json()["active"]
    assert (await client.post(found["revocation_endpoint"], data=form)).status_code == 200
    assert not (await client.post(found["introspection_endpoint"], data=form)).json()["active"]


async def test_the_issuer_is_the_public_url_however_it_was_asked(asking: Asking) -> None:
    answer = await asking.running.client.get(
        METADATA, headers={"host": "evil.example", "x-forwarded-host": "evil.example"}
    )
    assert answer.json()["issuer"] == f"{PUBLIC_URL}/t/acme"


async def test_without_a_public_url_the_issuer_is_where_the_gateway_listens() -> None:
    async with running(memory_settings(public_url="", host="127.0.0.1", port=8123)) as started:
        await started.onboard("acme")
        answer = await started.client.get(METADATA)
        assert answer.json()["issuer"] == "http://127.0.0.1:8123/t/acme"


@pytest.mark.parametrize("path", [JWKS, METADATA])
async def test_an_unknown_tenant_has_neither(asking: Asking, path: str) -> None:
    answer = await asking.running.client.get(path.replace("acme", "globex"))
    assert error_of(answer) == (404, "invalid_request")


@pytest.mark.parametrize("path", [JWKS, METADATA])
async def test_head_answers_like_get_and_options_tells_the_methods(
    asking: Asking, path: str
) -> None:
    client = asking.running.client
    got, headed = await client.get(path), await client.head(path)
    assert headed.status_code == 200
    assert headed.headers["content-length"] == got.headers["content-length"]
    for answer in (await client.options(path), await client.post(path)):
        assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))
    assert (await client.options(path)).is_success
    for method in ("POST", "PUT", "DELETE"):
        assert (await client.request(method, path)).status_code == 405


@pytest.mark.parametrize(
    "path", ["/xwell-known/oauth-authorization-server/t/acme", METADATA + "/x", METADATA[:-5]]
)
async def test_a_path_like_it_is_not_found(asking: Asking, path: str) -> None:
    assert (await asking.running.client.get(path)).status_code == 404


class TestCrossOrigin:
    """CORS_ORIGINS, for pages elsewhere that call the gateway."""

    ORIGIN = "https://app.example.com"
    TOKEN = "/t/acme/oauth2/token"

    async def test_without_it_no_page_elsewhere_reads_an_answer(self, asking: Asking) -> None:
        answer = await asking.running.client.get(METADATA, headers={"origin": self.ORIGIN})
        assert "access-control-allow-origin" not in answer.headers

    async def test_a_page_that_is_named_may_ask_and_read(self) -> None:
        async with running(memory_settings(cors_origins=self.ORIGIN)) as started:
            asking = Asking(started, await started.onboard("acme"))
            preflight = await started.client.options(
                self.TOKEN,
                headers={
                    "origin": self.ORIGIN,
                    "access-control-request-method": "POST",
                    "access-control-request-headers": "authorization,content-type",
                },
            )
            assert preflight.is_success
            assert preflight.headers["access-control-allow-origin"] == self.ORIGIN
            allowed = preflight.headers["access-control-allow-headers"].lower()
            assert {"authorization", "content-type"} <= set(allowed.split(", "))
            answer = await started.client.post(
                self.TOKEN,
                data={**GRANT, **in_body(asking.admin)},
                headers={"origin": self.ORIGIN},
            )
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == self.ORIGIN
            # There are no cookies, so nothing is sent along without being asked for.
            assert "access-control-allow-credentials" not in answer.headers

    async def test_another_page_may_not(self) -> None:
        async with running(memory_settings(cors_origins=self.ORIGIN)) as started:
            asking = Asking(started, await started.onboard("acme"))
            answer = await started.client.post(
                self.TOKEN,
                data={**GRANT, **in_body(asking.admin)},
                headers={"origin": "https://evil.example.com"},
            )
            assert answer.headers.get("access-control-allow-origin") != "https://evil.example.com"
            assert answer.headers.get("access-control-allow-origin") != "*"
