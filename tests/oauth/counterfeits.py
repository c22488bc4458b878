"""Access tokens that are not to be believed: each is a good one but for what its name says.

Where nothing else is said, the gateway's own key has signed it, so that the one thing that is wrong
is what is tried.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import jwt

from tests.auth import forging
from tests.auth.forging import base64url, signed, signing_input
from tests.gateway import PUBLIC_URL

LEEWAY = 30


@dataclass(frozen=True, slots=True)
class Mint:
    """`header` and `claims` are those of a good token, which the gateway itself has issued;
    `stranger` is a key of the same kind that is none of its own."""

    key: forging.PrivateKey
    stranger: forging.PrivateKey
    good: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @classmethod
    def of(cls, token: str) -> Mint:
        return cls(
            forging.key_for("ES256"),
            forging.key_for("ES256", 1),
            token,
            jwt.get_unverified_header(token),
            jwt.decode(token, options={"verify_signature": False}),
        )

    def saying(self, **claims: Any) -> str:
        return signed(self.key, self.header, {**self.claims, "jti": str(uuid4()), **claims})

    def headed(self, **header: Any) -> str:
        return signed(self.key, {**self.header, **header}, self.claims)

    def by_stranger(self, **header: Any) -> str:
        return signed(self.stranger, {**self.header, **header}, self.claims)

    def unsigned(self, **header: Any) -> str:
        return signing_input({**self.header, **header}, self.claims) + "."

    def sealed(self, secret: bytes, algorithm: str = "HS256") -> str:
        text = signing_input({**self.header, "alg": algorithm}, self.claims)
        mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        return f"{text}.{base64url(mac)}"

    def without(self, part: str, name: str) -> str:
        header, claims = dict(self.header), dict(self.claims)
        del {"header": header, "claims": claims}[part][name]
        return signed(self.key, header, claims)

    def written(self, claim: str, value: str) -> str:
        """With a claim as no encoder would write it."""
        others = {name: said for name, said in self.claims.items() if name != claim}
        text = f'{json.dumps(others)[:-1]},"{claim}":{value}}}'
        return signed(self.key, self.header, text.encode())

    def over(self, payload: bytes) -> str:
        return signed(self.key, self.header, payload)

    @property
    def whole(self) -> str:
        """The claims as JSON, without the brace at the end."""
        return json.dumps(self.claims)[:-1]

    @property
    def issued(self) -> int:
        issued: int = self.claims["iat"]
        return issued

    @property
    def public(self) -> Mapping[str, bytes]:
        jwk = forging.jwk_of(self.key)
        return {
            "pem": forging.public_pem(self.key),
            "der": forging.public_der(self.key),
            "jwk": json.dumps(jwk, separators=(",", ":")).encode(),
        }


Forging: TypeAlias = Callable[[Mint], str]


def _each(
    what: str, values: Mapping[str, Any], make: Callable[[Mint, Any], str]
) -> dict[str, Forging]:
    def of(value: Any) -> Forging:
        return lambda mint: make(mint, value)

    return {f"{what} {name}": of(value) for name, value in values.items()}


def _as_they_are(*values: object) -> dict[str, object]:
    return {ascii(value)[:24]: value for value in values}


# Of RFC 8725 §3.1–3.2 and §3.10, RFC 7515 §4.1, RFC 9068 §4.
HEADERS: dict[str, Forging] = {
    **_each("alg", _as_they_are("none", "nOnE", None, ["ES256"], ["none"], ""),
            lambda mint, alg: mint.unsigned(alg=alg)),
    "no alg": lambda mint: mint.without("header", "alg"),
    **_each("HS256 by our own", {"pem": "pem", "der": "der", "jwk": "jwk"},
            lambda mint, form: mint.sealed(mint.public[form])),
    **_each("alg", _as_they_are("RS256", "EdDSA", "ES384", "ES256K", "HS256", "PS256"),
            lambda mint, alg: mint.headed(alg=alg)),
    **_each("signed by another", {each: each for each in ("ES256", "RS256", "EdDSA")},
            lambda mint, alg: signed(forging.key_for(alg, 1), {**mint.header, "alg": alg},
                                     mint.claims)),
    **_each("kid", _as_they_are("../../etc/passwd", "' or 1=1--", 1, None, "", "x", ["x"],
                                "http://127.0.0.1:9/key", "\ud800"),
            lambda mint, kid: mint.headed(kid=kid)),
    "kid of a megabyte": lambda mint: mint.headed(kid="x" * 30_000),
    "no kid": lambda mint: mint.without("header", "kid"),
    **_each("a key brought along:",
            {"jku": {"jku": "http://127.0.0.1:9/keys"}, "x5u": {"x5u": "http://127.0.0.1:9/cert"},
             "x5c": {"x5c": ["AAAA"]}, "jwk": {"jwk": {"kty": "EC"}}},
            lambda mint, brought: mint.by_stranger(**brought)),
    "a whole key brought along": lambda mint: mint.by_stranger(
        jwk=forging.jwk_of(mint.stranger), kid=forging.kid_of(mint.stranger)),
    **_each("crit", _as_they_are(["exp"], ["b64"], [], "b64", ["unknown"]),
            lambda mint, crit: mint.headed(crit=crit)),
    "b64 false": lambda mint: mint.headed(b64=False, crit=["b64"]),
    **_each("typ", _as_they_are("JWT", "dpop+jwt", "id_token", "", None, 1, ["at+jwt"]),
            lambda mint, typ: mint.headed(typ=typ)),
    "no typ": lambda mint: mint.without("header", "typ"),
}  # fmt: skip

# Of RFC 9068 §4, RFC 7519 §4.1, RFC 8725 §3.8.
CLAIMS: dict[str, Forging] = {
    **_each("iss", _as_they_are("https://evil.example/t/acme", PUBLIC_URL, ["x"], 1, None,
                                f"{PUBLIC_URL}/t/globex", f"{PUBLIC_URL}/t/nobody",
                                f"{PUBLIC_URL}/t/a'b", f"{PUBLIC_URL}/t/acme/"),
            lambda mint, iss: mint.saying(iss=iss)),
    **_each("no", {name: name for name in ("iss", "sub", "aud", "exp", "iat", "jti", "client_id")},
            lambda mint, name: mint.without("claims", name)),
    **_each("aud", _as_they_are(1, None, {"x": 1}, [1]), lambda mint, aud: mint.saying(aud=aud)),
    **_each("exp", _as_they_are("1", 0.5, -1, 0, [1], 2**63),
            lambda mint, exp: mint.saying(exp=exp)),
    **_each("exp written", {each[:12]: each for each in
                            ("1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity", "1e400", "+1")},
            lambda mint, exp: mint.written("exp", exp)),
    **_each("from the future by", {"nbf": "nbf", "iat": "iat"},
            lambda mint, name: mint.saying(**{name: mint.issued + LEEWAY + 1})),
    **_each("jti", _as_they_are(1, None, "x", "", ["x"], "\ud800"),
            lambda mint, jti: mint.saying(jti=jti)),
    "jti in braces": lambda mint: mint.saying(jti=f"{{{uuid4()}}}"),
    "jti with a NUL": lambda mint: mint.saying(jti=f"{uuid4()}\0"),
    "jti of many bytes": lambda mint: mint.saying(jti="x" * 30_000),
    "sub of an injection": lambda mint: mint.saying(sub="' or 1=1--"),
    "signed by a stranger": lambda mint: mint.by_stranger(),
}  # fmt: skip

# Of RFC 7515 §4 and §5.2, RFC 8725 §2.
TEXTS: dict[str, Forging] = {
    "padding behind it": lambda mint: mint.good + "==",
    "a fourth part": lambda mint: mint.good + ".x",
    "no signature": lambda mint: mint.good.rpartition(".")[0] + ".",
    "another signature": lambda mint: mint.good[:-20] + "A" * 20,
    "another payload": lambda mint: ".".join(
        [mint.good.split(".")[0], mint.saying(scope="x:y").split(".")[1], mint.good.split(".")[2]]),
    "a claim twice": lambda mint: mint.over(f'{mint.whole},"jti":"{uuid4()}"}}'.encode()),
    "a header twice": lambda mint: signed(
        mint.key, json.dumps(dict(mint.header))[:-1].encode() + b',"alg":"ES256"}', mint.claims),
    "lists in lists": lambda mint: mint.over(f'{mint.whole},"x":{"[" * 2500}'.encode()),
    "objects in objects": lambda mint: mint.over((mint.whole + ',"x":{"x":' * 400).encode()),
    "a list": lambda mint: mint.over(b"[]"),
    "nothing": lambda mint: mint.over(b""),
    "half a surrogate": lambda mint: mint.over(f'{mint.whole},"scope":"\\ud800"}}'.encode()),
    "what is no UTF-8": lambda mint: mint.over(b'{"iss":"\xff"}'),
}  # fmt: skip

FORGED = {**HEADERS, **CLAIMS, **TEXTS}

# Meant for others: good to look into and to revoke, and opening nothing here.
FOR_OTHERS: dict[str, Forging] = _each(
    "aud",
    _as_they_are("https://api.example.com", PUBLIC_URL, f"{PUBLIC_URL}/t/globex", ["x"], []),
    lambda mint, aud: mint.saying(aud=aud),
)

GOOD: dict[str, Forging] = {
    "as it was issued": lambda mint: mint.good,
    **_each("typ", _as_they_are("at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"),
            lambda mint, typ: mint.headed(typ=typ)),
    "for several": lambda mint: mint.saying(aud=["https://api.example.com", mint.claims["iss"]]),
    "jti in capitals": lambda mint: mint.saying(jti=str(uuid4()).upper()),
    "keys brought along that it does not need": lambda mint: mint.headed(
        jku="http://127.0.0.1:9/keys", jwk=forging.jwk_of(mint.stranger), x5c=["AAAA"]),
    **_each("within the leeway by", {"nbf": "nbf", "iat": "iat"},
            lambda mint, name: mint.saying(**{name: mint.issued + LEEWAY})),
}  # fmt: skip
