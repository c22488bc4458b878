"""Access tokens: JWTs of the profile in RFC 9068, signed with ES256.

A token that verifies here is well formed, ours, of one tenant and within its time. Whether it has
been revoked since is another question (`db.revocations`), asked on every request.

Sources: RFC 9068 §2 and §4, RFC 8725, RFC 7519.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import jwt
import msgspec
from jwt.api_jws import PyJWS

from db.errors import Unauthenticated
from db.namespace import prefix_problem
from db.records import Agent, Credential, Tenant
from db.revocations import CLOCK_LEEWAY_SECONDS
from gateway.auth.keys import ALGORITHM, KeyRing

MAX_TOKEN_BYTES = 8192
_TYPES = frozenset({"at+jwt", "application/at+jwt"})
# Seconds since 1970 that a timestamp column can hold, far beyond any token's life.
_LAST_SECOND = 253_402_300_799


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """The claims of a verified token. `gen` is the token generation of (agent, tenant); `kid` names
    the key that verified it, and is no claim."""

    iss: str
    sub: UUID
    aud: str | list[str]
    exp: int
    iat: int
    nbf: int
    jti: UUID
    client_id: UUID
    scope: str
    credential_id: UUID
    gen: tuple[int, int]
    kid: str = ""

    @property
    def slug(self) -> str:
        """The tenant that the issuer names; verified with it."""
        return self.iss.rpartition("/")[2]

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.scope.split())

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.exp, UTC)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """`access_token` is the only place where the token's text is; it is never logged or kept."""

    access_token: str
    jti: UUID
    scope: str
    expires_in: int
    expires_at: datetime


class TokenAuthority:
    """Issues and verifies the tokens of every tenant of this deployment."""

    def __init__(self, keys: KeyRing, public_url: str, ttl_seconds: int) -> None:
        self._keys = keys
        self._ttl = ttl_seconds
        self._issuers = f"{public_url}/t/"
        self._jws = PyJWS(algorithms=[ALGORITHM])
        self._decoder = msgspec.json.Decoder(Claims)

    @property
    def jwks(self) -> bytes:
        return self._keys.jwks

    def issuer(self, slug: str) -> str:
        return self._issuers + slug

    def issue(
        self,
        tenant: Tenant,
        agent: Agent,
        credential: Credential,
        scope: str,
        audience: list[str],
        now: datetime,
    ) -> IssuedToken:
        """A token for `agent`; `audience` may be empty, and is then the issuer itself."""
        issuer = self.issuer(tenant.slug)
        issued = int(now.timestamp())
        claims = Claims(
            iss=issuer,
            sub=agent.agent_id,
            aud=audience[0] if len(audience) == 1 else audience or issuer,
            exp=issued + self._ttl,
            iat=issued,
            nbf=issued,
            jti=uuid4(),
            client_id=agent.agent_id,
            scope=scope,
            credential_id=credential.credential_id,
            gen=(agent.token_generation, tenant.token_generation),
        )
        key = self._keys.signing
        token = self._jws.encode(
            msgspec.json.encode(claims),
            key.private,
            algorithm=ALGORITHM,
            headers={"typ": "at+jwt", "kid": key.kid},
        )
        return IssuedToken(token, claims.jti, scope, self._ttl, claims.expires_at)

    def verify(self, token: str, now: datetime, *, audience: str | None = None) -> Claims:
        """The claims of a token of ours at `now`.

        `audience` defaults to the issuer: the token is meant for the gateway itself. An empty
        text accepts any audience, for introspection and revocation. Raises Unauthenticated.
        """
        kid, payload = self._signed_payload(token)
        try:
            claims = msgspec.structs.replace(self._decoder.decode(payload), kid=kid)
        except msgspec.MsgspecError as error:
            raise _not_accepted() from error
        if claims.iss != self.issuer(claims.slug) or prefix_problem(claims.slug) is not None:
            raise _not_accepted()
        wanted = claims.iss if audience is None else audience
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if wanted and wanted not in audiences:
            raise _not_accepted()
        second = now.timestamp()
        begun = max(claims.iat, claims.nbf) <= second + CLOCK_LEEWAY_SECONDS
        if not begun or not second < claims.exp <= _LAST_SECOND:
            raise _not_accepted()
        return claims

    def _signed_payload(self, token: str) -> tuple[str, bytes]:
        # A compact JWS is ASCII without padding: anything else is another spelling of some token.
        if len(token) > MAX_TOKEN_BYTES or not token.isascii() or "=" in token:
            raise _not_accepted()
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.verifying(str(header.get("kid")))
            kind = header.get("typ")
            if key is None or not isinstance(kind, str) or kind.lower() not in _TYPES:
                raise _not_accepted()
            if header.get("alg") != ALGORITHM:
                raise _not_accepted()
            decoded = self._jws.decode_complete(token, key.public, algorithms=[ALGORITHM])
        except (jwt.PyJWTError, ValueError, RecursionError, TypeError) as error:
            raise _not_accepted() from error
        payload = decoded["payload"]
        assert isinstance(payload, bytes)
        return key.kid, payload


def _not_accepted() -> Unauthenticated:
    # One message for every reason: a caller with a false token learns nothing from it.
    return Unauthenticated("the access token is not accepted")
