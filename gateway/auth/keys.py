"""A key that signs access tokens: which kinds there are, what is published of one, how it signs.

The key fixes the algorithm: what a token's header says is never asked. A key's name is its
thumbprint, so the same key has the same name wherever it comes from.

Sources: RFC 7517, RFC 7518 §3.3, §3.4 and §6, RFC 7638, RFC 8037 §2.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from db.errors import Misconfigured
from db.records import SigningAlgorithm

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[bytes, bytes], bool]

_EXPONENT = 65_537
_RSA_BITS = (2048, 4096)
# As strong as what is made of it needs: nobody forges a token of last year. Whoever wants a longer
# one gives it as PEM, and pays for it with every signature.
_NEW_RSA_BITS = 2048
_COORDINATE = 32  # octets

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_NO_KEY = "EC PARAMETERS"  # what `openssl ecparam -genkey` writes before the key itself
_KINDS = "P-256, RSA of 2048 to 4096 bits, or Ed25519"


@dataclass(frozen=True, slots=True)
class Key:
    """One key pair. `jwk` is its public half; `verify` takes the signed text and the signature, as
    a JWS has it."""

    kid: str
    algorithm: SigningAlgorithm
    jwk: dict[str, str]
    private: PrivateKey = field(repr=False)
    sign: Sign = field(repr=False)
    verify: Verify = field(repr=False)


def new_key(algorithm: SigningAlgorithm) -> Key:
    """Made of fresh randomness. An RSA key takes a good part of a second."""
    match algorithm:
        case SigningAlgorithm.ES256:
            return key_of(ec.generate_private_key(ec.SECP256R1()))
        case SigningAlgorithm.RS256:
            return key_of(rsa.generate_private_key(_EXPONENT, _NEW_RSA_BITS))
        case SigningAlgorithm.EDDSA:
            return key_of(ed25519.Ed25519PrivateKey.generate())


def keys_in(pem: str, where: str) -> list[Key]:
    """The keys of all blocks, in their order. Raises Misconfigured, which says `where`."""
    text = pem.replace("\\n", "\n")
    blocks = [found[0] for found in _PEM_BLOCK.finditer(text) if found[1] != _NO_KEY]
    if not blocks:
        raise Misconfigured(f"{where} holds no PEM block with a key")
    return [key_of(_parsed(block, where), where) for block in blocks]


def key_of(private: object, where: str = "the key store") -> Key:
    """Raises Misconfigured for a key of another kind or size."""
    match private:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return _es256(private)
        case rsa.RSAPrivateKey() if _is_fit(private):
            return _rs256(private)
        case ed25519.Ed25519PrivateKey():
            return _eddsa(private)
    raise Misconfigured(f"{where} holds a key that is not {_KINDS}")


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _parsed(pem: str, where: str) -> object:
    try:
        return serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{where} holds a PEM block that is no private key") from error


def _is_fit(private: rsa.RSAPrivateKey) -> bool:
    least, most = _RSA_BITS
    return (
        least <= private.key_size <= most and private.public_key().public_numbers().e >= _EXPONENT
    )


def _es256(private: ec.EllipticCurvePrivateKey) -> Key:
    public, scheme = private.public_key(), ec.ECDSA(hashes.SHA256())
    numbers = public.public_numbers()

    def sign(text: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(text, scheme))
        return r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")

    def check(text: bytes, signature: bytes) -> None:
        if len(signature) != 2 * _COORDINATE:
            raise InvalidSignature
        r, s = signature[:_COORDINATE], signature[_COORDINATE:]
        public.verify(encode_dss_signature(int.from_bytes(r), int.from_bytes(s)), text, scheme)

    members = {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url(numbers.x.to_bytes(_COORDINATE)),
        "y": base64url(numbers.y.to_bytes(_COORDINATE)),
    }
    return _key(SigningAlgorithm.ES256, members, private, sign, check)


def _rs256(private: rsa.RSAPrivateKey) -> Key:
    public, scheme, digest = private.public_key(), padding.PKCS1v15(), hashes.SHA256()
    numbers = public.public_numbers()

    def sign(text: bytes) -> bytes:
        return private.sign(text, scheme, digest)

    def check(text: bytes, signature: bytes) -> None:
        public.verify(signature, text, scheme, digest)

    members = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
    return _key(SigningAlgorithm.RS256, members, private, sign, check)


def _eddsa(private: ed25519.Ed25519PrivateKey) -> Key:
    public = private.public_key()

    def check(text: bytes, signature: bytes) -> None:
        public.verify(signature, text)

    members = {"crv": "Ed25519", "kty": "OKP", "x": base64url(public.public_bytes_raw())}
    return _key(SigningAlgorithm.EDDSA, members, private, private.sign, check)


def _key(
    algorithm: SigningAlgorithm,
    members: dict[str, str],
    private: PrivateKey,
    sign: Sign,
    check: Callable[[bytes, bytes], None],
) -> Key:
    """`members` are those of RFC 7638 §3.2, in its order."""
    kid = base64url(hashlib.sha256(msgspec.json.encode(members)).digest())

    def verify(text: bytes, signature: bytes) -> bool:
        try:
            check(text, signature)
        except InvalidSignature:
            return False
        return True

    jwk = {**members, "kid": kid, "alg": algorithm.value, "use": "sig"}
    return Key(kid, algorithm, jwk, private, sign, verify)


def _number(value: int) -> str:
    """Source: RFC 7518 §2, Base64urlUInt."""
    return base64url(value.to_bytes((value.bit_length() + 7) // 8))
