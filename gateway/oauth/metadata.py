"""What a tenant's authorization server can do, for clients that ask before they act.

Source: RFC 8414 §2.
"""

from __future__ import annotations

import msgspec

from db.grammar import GATEWAY_CAPABILITIES
from gateway.auth.jwk import SIGNING_ALGORITHMS

_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]


def document(issuer: str) -> bytes:
    """The metadata of the server whose issuer identifier this is, as JSON."""
    return msgspec.json.encode({
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth2/token",
        "introspection_endpoint": f"{issuer}/oauth2/introspect",
        "revocation_endpoint": f"{issuer}/oauth2/revoke",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        # There is no authorization endpoint, hence no response type. An empty list is to be left
        # out (§3.2), but this member is required (§2), and clients look for what is required.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": _METHODS,
        "token_endpoint_auth_signing_alg_values_supported": SIGNING_ALGORITHMS,
        # An access token stands among the methods of this endpoint alone; it revokes, too.
        "introspection_endpoint_auth_methods_supported": [*_METHODS, "Bearer"],
        "introspection_endpoint_auth_signing_alg_values_supported": SIGNING_ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": _METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": SIGNING_ALGORITHMS,
        # The gateway's own; what other servers understand, an agent has as capabilities.
        "scopes_supported": sorted(GATEWAY_CAPABILITIES),
    })  # fmt: skip
