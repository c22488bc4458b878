"""What goes wrong, in OAuth's own words: one error type, one translator, one way to answer.

A refusal says the same whatever the reason was: an unknown client, a wrong secret, a suspended
agent and another tenant's client get the same bytes.

Sources: RFC 6749 §5.2, RFC 6750 §3, RFC 7009 §2.2.1, RFC 8707 §2, RFC 6585 §4.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from db.errors import (
    Forbidden,
    InvalidClient,
    InvalidScope,
    InvalidTarget,
    MalformedAuthorization,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from db.log import log_fault
from gateway.http import BodyTooLarge, BodyTooSlow, Exchange

Headers = Sequence[tuple[bytes, bytes]]

NO_STORE: Headers = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
_REALM = b'realm="agentidp"'
_log = structlog.get_logger(__name__)


class OAuthError(Exception):
    """An answer that is not a success. `description` is ASCII without quotes and backslashes."""

    def __init__(
        self, error: str, description: str, status: int = 400, headers: Headers = ()
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers


def invalid_request(description: str) -> OAuthError:
    return OAuthError("invalid_request", description)


def invalid_client(*besides: tuple[bytes, bytes]) -> OAuthError:
    # Challenged whichever way the client came: every 401 names a scheme (RFC 9110 §15.5.2).
    basic = (b"www-authenticate", b"Basic " + _REALM + b', charset="UTF-8"')
    return OAuthError("invalid_client", "client authentication failed", 401, [basic, *besides])


def invalid_caller() -> OAuthError:
    """Where an access token would do as well, which is said without an error: there was none."""
    return invalid_client((b"www-authenticate", b"Bearer " + _REALM))


def unknown_tenant() -> OAuthError:
    return OAuthError("invalid_request", "there is no such tenant", 404)


def no_such_endpoint() -> OAuthError:
    return OAuthError("invalid_request", "there is no such endpoint", 404)


def wrong_method(allowed: bytes) -> OAuthError:
    described = f"this endpoint answers {allowed.decode()} alone"
    return OAuthError("invalid_request", described, 405, [(b"allow", allowed)])


async def answer_fault(exchange: Exchange, fault: Exception) -> None:
    """The answer to anything that a handler raised."""
    error = _translated(fault)
    body = msgspec.json.encode({"error": error.error, "error_description": error.description})
    await exchange.respond(error.status, body, headers=[*NO_STORE, *error.headers])


def _translated(fault: Exception) -> OAuthError:
    match fault:
        case OAuthError():
            return fault
        case InvalidClient():
            return invalid_client()
        case InvalidScope():
            return OAuthError("invalid_scope", fault.message)
        case InvalidTarget():
            return OAuthError("invalid_target", fault.message)
        case MalformedAuthorization():
            return invalid_request("a bearer token follows its scheme after one blank")
        case Unauthenticated():
            challenge = b"Bearer " + _REALM + b', error="invalid_token"'
            return OAuthError(
                "invalid_token",
                "the access token is not accepted",
                401,
                [(b"www-authenticate", challenge)],
            )
        case Forbidden():
            # Only revocation forbids anything here: a token that was issued to another client.
            return OAuthError("invalid_grant", "the token was issued to another client")
        case BodyTooLarge():
            # The rest of the body is not read, so the connection can carry nothing after it.
            closing = [(b"connection", b"close")]
            return OAuthError("invalid_request", "the body is too large", 413, closing)
        case BodyTooSlow():
            closing = [(b"connection", b"close")]
            return OAuthError("invalid_request", "the body did not arrive in time", 408, closing)
        case Throttled():
            return OAuthError(
                # RFC 6749 has no word for it, and leaves room for others (§8.5).
                "too_many_requests",
                "too many requests, or too many that failed; repeat this one later",
                429,
                [(b"retry-after", b"%d" % fault.retry_after)],
            )
        case Unavailable():
            _log.warning("unavailable", reason=fault.message)
            return OAuthError(
                "temporarily_unavailable",
                # A revocation may have been kept all the same: asked for again, it is harmless.
                "this could not be confirmed; repeat the request later",
                503,
                [(b"retry-after", b"%d" % fault.retry_after)],
            )
    log_fault(fault)
    return OAuthError("server_error", "the request could not be served", 500)
