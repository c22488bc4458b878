"""A key of a client's own, and what it signs to prove itself (`private_key_jwt`)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class ClientKey:
    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> dict[str, Any]:
        """As a JWK."""
        jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self._private.public_key()))
        return jwk

    def assertion(self, client_id: str, issuer: str, now: datetime) -> str:
        """One that was never shown before."""
        second = int(now.timestamp())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": issuer,
            "iat": second,
            "exp": second + 60,
            "jti": str(uuid4()),
        }
        return jwt.encode(claims, self._private, algorithm="ES256")

    def form(self, client_id: str, issuer: str, now: datetime) -> dict[str, str]:
        """What stands for the client in a request's body."""
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(client_id, issuer, now),
        }
