"""What a tenant's authorization server can do, for clients that ask before they act.

Source: RFC 8414 §2.
"""

from __future__ import annotations

import msgspec

from db.grammar import GATEWAY_CAPABILITIES

_BY_SECRET = ["client_secret_basic", "client_secret_post"]


def document(issuer: str) -> bytes:
    """The metadata of the server whose issuer identifier this is, as JSON."""
    return msgspec.json.encode({
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth2/token",
        "introspection_endpoint": f"{issuer}/oauth2/introspect",
        "revocation_endpoint": f"{issuer}/oauth2/revoke",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        # There is no authorization endpoint, hence no response type; the member is required.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": _BY_SECRET,
        "introspection_endpoint_auth_methods_supported": [*_BY_SECRET, "Bearer"],
        "revocation_endpoint_auth_methods_supported": _BY_SECRET,
        # The gateway's own; what other servers understand, an agent has as capabilities.
        "scopes_supported": sorted(GATEWAY_CAPABILITIES),
    })  # fmt: skip
