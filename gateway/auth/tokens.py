"""Access tokens: JWTs of the profile in RFC 9068.

A token that verifies here is well formed, ours, of one tenant and within its time. Whether it has
been revoked since is another question (`db.revocations`), asked on every request.

Sources: RFC 9068 §2 and §4, RFC 8725, RFC 7519.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid4

import msgspec

from db.cuts import LAST_SECOND
from db.errors import Unauthenticated
from db.namespace import prefix_problem
from db.records import Agent, Credential, Tenant
from db.revocations import CLOCK_LEEWAY_SECONDS
from gateway.auth import jws
from gateway.auth.accepted import AcceptedTokens
from gateway.auth.keyring import KeyRing, KeySet
from gateway.auth.keys import Key

MAX_TOKEN_BYTES = 8192
_TYPE = "at+jwt"
# One is about a kilobyte and a half.
_MOST_REMEMBERED = 4096
_TYPES = frozenset({"at+jwt", "application/at+jwt"})


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
        self._ring = keys
        self._ttl = ttl_seconds
        self._issuers = f"{public_url}/t/"
        self._accepted = AcceptedTokens(_MOST_REMEMBERED)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Claims)
        self._beginning: tuple[Key, bytes] | None = None

    async def published(self, now: datetime) -> KeySet:
        """The keys that the world verifies our tokens with."""
        return await self._ring.current(now)

    def issuer(self, slug: str) -> str:
        return self._issuers + slug

    async def issue(
        self,
        tenant: Tenant,
        agent: Agent,
        credential: Credential,
        scope: str,
        audience: list[str],
        now: datetime,
    ) -> IssuedToken:
        """A token for `agent`; `audience` may be empty, and is then the issuer itself."""
        key = (await self._ring.current(now)).signing
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
        if self._beginning is None or self._beginning[0] is not key:
            self._beginning = (key, jws.protected(key, _TYPE))
        token = jws.compact(self._beginning[1], self._encoder.encode(claims), key.sign)
        return IssuedToken(token, claims.jti, scope, self._ttl, claims.expires_at)

    async def verify(self, token: str, now: datetime, *, audience: str | None = None) -> Claims:
        """The claims of a token of ours at `now`.

        `audience` defaults to the issuer: the token is meant for the gateway itself. An empty
        text accepts any audience, for introspection and revocation. Raises Unauthenticated, and
        Unavailable for a key that is unknown here while storage cannot be asked.
        """
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise _not_accepted()
        text = token.encode()
        digest = sha256(text).digest()
        remembered = self._accepted.get(digest, self._ring.known)
        claims = remembered or await self._read(text, now)
        wanted = claims.iss if audience is None else audience
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if wanted and wanted not in audiences:
            raise _not_accepted()
        second = now.timestamp()
        if not second < claims.exp:
            self._accepted.forget(digest)
            raise _not_accepted()
        if max(claims.iat, claims.nbf) > second + CLOCK_LEEWAY_SECONDS:
            raise _not_accepted()
        if remembered is None:
            self._accepted.keep(digest, claims, self._ring.known)
        return claims

    async def _read(self, text: bytes, now: datetime) -> Claims:
        """What a token says that is signed by us, whenever it counts and for whomever."""
        try:
            presented = jws.parse(text)
            if presented.header.typ.lower() not in _TYPES:
                raise _not_accepted()
            key = await self._ring.find(presented.header.kid, now)
            if key is None:
                raise _not_accepted()
            said = self._decoder.decode(presented.payload(key))
        except (jws.Malformed, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _not_accepted() from error
        if (
            said.iss != self.issuer(said.slug)
            or prefix_problem(said.slug) is not None
            or said.exp > LAST_SECOND
        ):
            raise _not_accepted()
        return msgspec.structs.replace(said, kid=key.kid)


def _not_accepted() -> Unauthenticated:
    # One message for every reason: a caller with a false token learns nothing from it.
    return Unauthenticated("the access token is not accepted")
