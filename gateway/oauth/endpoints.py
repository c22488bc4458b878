"""The five endpoints of a tenant, as ASGI applications.

Sources: RFC 6749 §4.4 (token), RFC 7662 (introspect), RFC 7009 (revoke), RFC 7517 (jwks),
RFC 8414 (metadata).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from litestar import HttpMethod, asgi, route
from litestar.types import ASGIApp, Receive, Scope, Send

from db.errors import InvalidClient, Unauthenticated, Unavailable
from db.records import Tenant
from gateway.auth.keyring import JWKS_MAX_AGE
from gateway.auth.principal import AgentPrincipal
from gateway.auth.tokens import Claims
from gateway.http import Exchange, has_it, serve
from gateway.oauth.errors import (
    NO_STORE,
    Headers,
    OAuthError,
    answer_fault,
    invalid_caller,
    invalid_request,
    no_such_endpoint,
    unknown_tenant,
    wrong_method,
)
from gateway.oauth.forms import Form, parse, require_form
from gateway.oauth.metadata import document
from gateway.oauth.proof import BearerToken, proof_of
from gateway.services.call import Call

OPERATION_SECONDS = 10.0

_MAX_BODY = 65_536
_GRANT = "client_credentials"
_POST = b"POST"
_GET = b"GET, HEAD"
_NOTHING = "text/plain"  # an empty body is no JSON
_PUBLIC: Headers = ((b"cache-control", b"public, max-age=300"),)
_KEYS: Headers = ((b"cache-control", b"public, max-age=%d" % JWKS_MAX_AGE),)


# Mounted, because Litestar finds no ASGI handler at a path with parameters: it looks for the
# parameters under the request's method, and they stand under no method. What is mounted must have
# no dot in its path, which Litestar would take for a pattern.
@asgi(["/t"], is_mount=True, copy_scope=False)
async def oauth(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = Exchange(scope, receive, send)
    # The router kept the end of the path alone.
    exchange.path = "/t" + exchange.path.removesuffix("/")
    await serve(exchange, _answer, answer_fault)


@route(
    "/.well-known/oauth-authorization-server/t/{tenant:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
)
async def metadata() -> ASGIApp:
    return _metadata_app


async def _metadata_app(scope: Scope, receive: Receive, send: Send) -> None:
    await serve(Exchange(scope, receive, send), _metadata, answer_fault)


async def _answer(exchange: Exchange) -> None:
    slug, _, name = exchange.path.removeprefix("/t/").partition("/")
    endpoint = _ENDPOINTS.get(name)
    if endpoint is None:
        raise no_such_endpoint()
    await endpoint(exchange, slug)


async def _token(exchange: Exchange, slug: str) -> None:
    if await _only_asked(exchange, _POST):
        return
    form = await _form(exchange)
    tenant = await _tenant(exchange, slug)
    # All that can be refused without a password hash is refused before one.
    if form.required("grant_type") != _GRANT:
        raise OAuthError("unsupported_grant_type", f"the one grant type is {_GRANT}")
    proof = proof_of(exchange.headers(b"authorization"), form)
    if isinstance(proof, BearerToken):
        raise InvalidClient
    gateway = exchange.gateway
    async with _in_time():
        call, client = await gateway.clients.authenticate(exchange.anonymous_call(), tenant, proof)
        exchange.identified(call.principal)
        issued = await gateway.tokens.issue(call, client, form.get("scope"), form.all("resource"))
    answer = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "scope": issued.scope,
    }
    await exchange.respond(200, msgspec.json.encode(answer), headers=NO_STORE)


async def _introspect(exchange: Exchange, slug: str) -> None:
    if await _only_asked(exchange, _POST):
        return
    form = await _form(exchange)
    tenant = await _tenant(exchange, slug)
    async with _in_time():
        call = await _caller(exchange, tenant, form)
        exchange.identified(call.principal)
        found = await exchange.gateway.tokens.introspect(call, form.required("token"))
    answer = _described(found.claims) if found.claims else {"active": False}
    await exchange.respond(200, msgspec.json.encode(answer), headers=NO_STORE)


async def _revoke(exchange: Exchange, slug: str) -> None:
    if await _only_asked(exchange, _POST):
        return
    form = await _form(exchange)
    tenant = await _tenant(exchange, slug)
    async with _in_time():
        call = await _caller(exchange, tenant, form)
        exchange.identified(call.principal)
        await exchange.gateway.tokens.revoke(call, form.required("token"))
    await exchange.respond(200, b"", _NOTHING, NO_STORE)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """What is committed is committed soon after the instant that the call was made at: on that
    rests when a revocation is acknowledged. Raises Unavailable; what was done by then is undone."""
    try:
        async with asyncio.timeout(OPERATION_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable("the request took too long and was given up") from None


async def _jwks(exchange: Exchange, slug: str) -> None:
    if await _only_asked(exchange, _GET):
        return
    await _tenant(exchange, slug)
    # Plain application/json: every reader of key sets takes it, not every one jwk-set+json.
    keys = await exchange.gateway.authority.published(exchange.gateway.clock())
    headers = [*_KEYS, (b"etag", keys.etag.encode())]
    if has_it(exchange.headers(b"if-none-match"), keys.etag):
        await exchange.respond(304, b"", None, headers)
    else:
        await exchange.respond(200, keys.jwks, headers=headers)


async def _metadata(exchange: Exchange) -> None:
    tenant = await _tenant(exchange, exchange.scope["path_params"]["tenant"])
    issuer = exchange.gateway.authority.issuer(tenant.slug)
    await exchange.respond(200, document(issuer), headers=_PUBLIC)


_ENDPOINTS: dict[str, Callable[[Exchange, str], Awaitable[None]]] = {
    "oauth2/token": _token,
    "oauth2/introspect": _introspect,
    "oauth2/revoke": _revoke,
    ".well-known/jwks.json": _jwks,
}


async def _only_asked(exchange: Exchange, allowed: bytes) -> bool:
    """Whether OPTIONS has been answered, and nothing is left to do. Raises OAuthError."""
    if exchange.method == "OPTIONS":
        await exchange.respond(200, b"", _NOTHING, [*NO_STORE, (b"allow", allowed)])
        return True
    if exchange.method.encode() not in allowed.split(b", "):
        raise wrong_method(allowed)
    return False


async def _tenant(exchange: Exchange, slug: str) -> Tenant:
    gateway = exchange.gateway
    tenant = await gateway.authenticator.active_tenant(slug, gateway.clock())
    if tenant is None:
        raise unknown_tenant()
    return tenant


async def _form(exchange: Exchange) -> Form:
    require_form(exchange.headers(b"content-type"))
    return parse(await exchange.body(_MAX_BODY))


async def _caller(exchange: Exchange, tenant: Tenant, form: Form) -> Call:
    """The call as made by a client of this tenant, by its secret or by a token of its own."""
    if exchange.has_token_in_uri:
        raise invalid_request("an access token is sent in the Authorization header")
    call = exchange.anonymous_call()
    try:
        proof = proof_of(exchange.headers(b"authorization"), form)
        if isinstance(proof, BearerToken):
            return await _bearer(exchange, tenant, call, proof)
        known, _ = await exchange.gateway.clients.authenticate(call, tenant, proof)
    except InvalidClient:
        raise invalid_caller() from None
    return known


async def _bearer(exchange: Exchange, tenant: Tenant, call: Call, proof: BearerToken) -> Call:
    principal = await exchange.gateway.authenticator.bearer([proof.authorization], call.now)
    if not isinstance(principal, AgentPrincipal) or principal.tenant.slug != tenant.slug:
        raise Unauthenticated("the token is not one of this tenant")
    if proof.client_id not in (None, str(principal.agent_id)):
        raise invalid_request("client_id is not the one that the access token names")
    return call.by(principal)


def _described(claims: Claims) -> dict[str, object]:
    """RFC 7662 §2.2, about the token's own client whoever asks."""
    return {
        "active": True,
        "iss": claims.iss,
        "sub": claims.sub,
        "aud": claims.aud,
        "client_id": claims.client_id,
        "scope": claims.scope,
        "exp": claims.exp,
        "iat": claims.iat,
        "nbf": claims.nbf,
        "jti": claims.jti,
        "token_type": "Bearer",
    }
