"""How a request says who makes it: by HTTP Basic, a secret or an assertion in the body, or a bearer
token; by exactly one of them.

What stands in the URI of a request is never read.

Sources: RFC 6749 §2.3, RFC 7617 §2, RFC 7521 §4.2, RFC 6750 §2.1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.errors import InvalidClient
from gateway.auth.clients import ClientSecret
from gateway.auth.unproven import ClientAssertion
from gateway.oauth.errors import invalid_request
from gateway.oauth.forms import Form, Malformed, decode, printable

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class BearerToken:
    """`client_id` is what the body says besides, if it says anything."""

    authorization: str = field(repr=False)
    client_id: str | None


def proof_of(
    authorization: Sequence[str], form: Form
) -> ClientSecret | ClientAssertion | BearerToken:
    """From the values of all Authorization headers and the body. Raises OAuthError, and
    InvalidClient where there is no proof."""
    client_id, secret = form.get("client_id"), form.get("client_secret")
    assertion, kind = form.get("client_assertion"), form.get("client_assertion_type")
    asserted = assertion is not None or kind is not None
    if len(authorization) + (secret is not None) + asserted > 1:
        raise invalid_request(
            "authenticate in one way: an Authorization header, a secret or an assertion"
        )
    if asserted:
        return _asserted(assertion, kind, client_id)
    if not authorization:
        if client_id is None or secret is None:
            raise InvalidClient
        return ClientSecret(client_id, secret)
    scheme, _, credentials = authorization[0].partition(" ")
    match scheme.lower():
        case "basic":
            proof = _basic(credentials)
            if client_id not in (None, proof.client_id):
                raise invalid_request("client_id is not the one in the Authorization header")
            return proof
        case "bearer":
            return BearerToken(authorization[0], client_id)
    raise InvalidClient


def _asserted(assertion: str | None, kind: str | None, client_id: str | None) -> ClientAssertion:
    if assertion is None or kind is None:
        raise invalid_request("client_assertion and client_assertion_type come together")
    if kind != _JWT_BEARER:
        raise InvalidClient
    return ClientAssertion.read(assertion, client_id)


def _basic(credentials: str) -> ClientSecret:
    """Both halves are form encoded within the base64, so that a colon can be part of them."""
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
        if not colon:
            raise Malformed
        return ClientSecret(printable(decode(user)), printable(decode(password)))
    except (binascii.Error, ValueError):
        raise InvalidClient from None
