"""A client's own public key: which are taken, what of them is kept, and what is never repeated."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from db.errors import InvalidInput
from gateway.auth.jwk import public_jwk, verifying_key
from tests.auth.forging import base64url

EC = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
RSA = RSAAlgorithm.to_jwk(
    rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), as_dict=True
)
OKP = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
for each in (EC, RSA, OKP):
    each.pop("key_ops", None)

P = 2**255 - 19
CANARY = "c4n4ry"


def octets(value: int, size: int | None = None) -> str:
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8))


def little(value: int) -> str:
    return base64url(value.to_bytes(32, "little"))


def refusal(value: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        public_jwk(value, "publicKey")
    assert caught.value.path == ("publicKey",)
    return caught.value.message


@pytest.mark.parametrize(
    ("jwk", "members", "algorithms"),
    [
        (EC, {"kty", "crv", "x", "y"}, ("ES256",)),
        (RSA, {"kty", "n", "e"}, ("RS256", "PS256")),
        (OKP, {"kty", "crv", "x"}, ("EdDSA", "Ed25519")),
    ],
    ids=["EC", "RSA", "OKP"],
)
def test_a_key_is_kept_as_what_makes_it_and_names_it(
    jwk: dict[str, Any], members: set[str], algorithms: tuple[str, ...]
) -> None:
    more: dict[str, Any] = {
        "use": "sig",
        "key_ops": ["verify"],
        "ext": True,
        "x5u": "https://x.example",
        "z": [1],
    }
    assert public_jwk({**jwk, **more}, "publicKey") == jwk
    assert set(jwk) == members
    assert verifying_key(jwk).algorithms == algorithms
    assert verifying_key(jwk).kid is None
    for alg in algorithms:
        said = public_jwk({**jwk, "alg": alg, "kid": "first"}, "publicKey")
        assert said == {**jwk, "alg": alg, "kid": "first"}
        assert verifying_key(said).kid == "first"


def test_an_rsa_key_that_says_its_alg_is_good_for_that_one_alone() -> None:
    for alg in ("RS256", "PS256"):
        assert verifying_key({**RSA, "alg": alg}).algorithms == (alg,)


def test_the_two_names_of_one_algorithm_are_good_for_each_other() -> None:
    for alg in ("EdDSA", "Ed25519"):
        assert verifying_key({**OKP, "alg": alg}).algorithms == ("EdDSA", "Ed25519")


def test_a_key_is_parsed_once() -> None:
    again = dict(reversed(EC.items()))
    assert verifying_key(EC) is verifying_key(again)
    assert verifying_key(EC).public is verifying_key({**EC}).public
    assert verifying_key({**EC, "kid": "other"}).kid == "other"


def test_what_is_kept_is_none_of_what_was_given() -> None:
    given = dict(EC)
    kept = public_jwk(given, "publicKey")
    given["x"] = "changed"
    assert kept == EC


@pytest.mark.parametrize(
    "private",
    ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"],
)
@pytest.mark.parametrize("jwk", [EC, RSA, OKP], ids=["EC", "RSA", "OKP"])
@pytest.mark.parametrize("value", [CANARY, "", None])
def test_a_private_member_is_refused_whatever_it_says(
    jwk: dict[str, Any], private: str, value: str | None
) -> None:
    """Kept out of sight as well: whoever sends it has to make a new key, not to read of it."""
    assert "send the public half alone" in refusal({**jwk, private: value})
    assert CANARY not in refusal({**jwk, private: value})


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [EC],
        {"keys": [EC]},
        "-----BEGIN PUBLIC KEY-----" + CANARY,
        1,
        {},
        {"kty": "oct"},
        {"kty": "oct", "k": CANARY},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": CANARY},
        {"kty": ["EC"], "crv": "P-256"},
        {"kty": {"EC": 1}},
        {**EC, "kty": "ec"},
        {**EC, "crv": "P-384"},
        {**EC, "crv": "secp256k1"},
        {**EC, "crv": None},
        {**OKP, "crv": "X25519"},
        {**OKP, "crv": "Ed448"},
        {**EC, "kty": "OKP"},
        {**EC, "kty": "RSA"},
    ],
)
def test_what_is_no_key_of_a_kind_that_we_take_is_refused(value: Any) -> None:
    assert CANARY not in refusal(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"use": "enc"},
        {"use": None},
        {"use": ["sig"]},
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"key_ops": None},
        {"key_ops": {"verify": True}},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"alg": "RS1"},
        {"alg": None},
        {"alg": ["ES256", "RS256", "EdDSA"]},
        {"kid": ""},
        {"kid": "k" * 256},
        {"kid": "a b"},
        {"kid": "a\n"},
        {"kid": "a\x00"},
        {"kid": "é"},
        {"kid": "\ud800"},
        {"kid": 7},
        {"kid": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("jwk", [EC, RSA, OKP], ids=["EC", "RSA", "OKP"])
def test_a_key_that_says_of_itself_what_does_not_fit_is_refused(
    jwk: dict[str, Any], wrong: dict[str, Any]
) -> None:
    refusal({**jwk, **wrong})


@pytest.mark.parametrize(
    ("jwk", "alg"), [(EC, "RS256"), (RSA, "ES256"), (OKP, "ES256"), (EC, "EdDSA")]
)
def test_the_alg_of_another_kind_of_key_is_refused(jwk: dict[str, Any], alg: str) -> None:
    assert "alg" in refusal({**jwk, "alg": alg})


@pytest.mark.parametrize(
    ("jwk", "name"),
    [(EC, "x"), (EC, "y"), (OKP, "x"), (RSA, "n"), (RSA, "e")],
    ids=["EC.x", "EC.y", "OKP.x", "RSA.n", "RSA.e"],
)
def test_a_member_is_base64url_in_its_one_spelling(jwk: dict[str, Any], name: str) -> None:
    good = jwk[name]
    wrong: list[Any] = [
        None, 7, [good], {}, "", good + "=", good + "\n", " " + good, good[:-1] + "!", "é" + good,
        good + "A" * 1000, "A", "A" * 100_000, good.replace(good[0], "+", 1),
        # Half an octet more than there is, and other bits in what the last character leaves over.
        good + "A" * (5 - len(good) % 4),
    ]  # fmt: skip
    for each in wrong:
        refusal({**jwk, name: each})
    missing = {key: value for key, value in jwk.items() if key != name}
    refusal(missing)


def test_bits_that_the_last_character_leaves_over_are_zero() -> None:
    """32 octets take 43 characters, of which the last has two bits too many."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(EC["x"][-1])
    other = EC["x"][:-1] + alphabet[last + 1]
    assert base64.urlsafe_b64decode(other + "=") == base64.urlsafe_b64decode(EC["x"] + "=")
    refusal({**EC, "x": other})


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (octets(0, 32), octets(0, 32)),
        (EC["x"], EC["x"]),
        (EC["x"], octets(1, 32)),
        (octets(2**256 - 1, 32), EC["y"]),
        (EC["x"][:-2], EC["y"]),
        (octets(int.from_bytes(base64.urlsafe_b64decode(EC["x"] + "=")), 33), EC["y"]),
    ],
    ids=["zero", "x twice", "y of 1", "over the field", "an octet short", "an octet long"],
)
def test_a_point_that_is_not_on_p_256_is_refused(x: str, y: str) -> None:
    refusal({**EC, "x": x, "y": y})


@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        P - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    ],
    ids=["order 4", "order 1", "order 2", "order 8", "the other of order 8"],
)
@pytest.mark.parametrize("sign", [0, 2**255], ids=["even", "odd"])
def test_a_point_that_anybody_can_sign_for_is_refused(y: int, sign: int) -> None:
    assert "small order" in refusal({**OKP, "x": little(y + sign)})


def test_a_point_that_is_not_on_ed25519_or_has_a_second_spelling_is_refused() -> None:
    for y in (2, P, P + 1, 2**255 - 1):
        assert "no point" in refusal({**OKP, "x": little(y)})
    refusal({**OKP, "x": OKP["x"][:-2]})


def test_every_ed25519_key_that_is_made_is_taken() -> None:
    for _ in range(50):
        made = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
        assert public_jwk(made, "publicKey")["x"] == made["x"]


N = int.from_bytes(base64.urlsafe_b64decode(RSA["n"] + "=="))


@pytest.mark.parametrize(
    ("n", "e"),
    [
        (octets(N >> 1 | 1), RSA["e"]),
        (octets(N << 2049 | 1), RSA["e"]),
        (octets(N - 1), RSA["e"]),
        (octets(3 * (N >> 1 | 1)), RSA["e"]),
        (octets(743 * (N | 1)), RSA["e"]),
        (octets(N, 257), RSA["e"]),
        (RSA["n"], octets(1)),
        (RSA["n"], octets(3)),
        (RSA["n"], octets(65_535)),
        (RSA["n"], octets(65_538)),
        (RSA["n"], octets(2**32 + 1)),
        (RSA["n"], octets(N - 2)),
        (RSA["n"], octets(65_537, 4)),
    ],
    ids=["2047 bits", "4097 bits", "even", "a factor of 3", "a factor of 743", "a zero before",
         "e of 1", "e of 3", "e below", "even e", "e above", "a huge e", "a zero before e"],
)  # fmt: skip
def test_an_rsa_key_out_of_bounds_is_refused(n: str, e: str) -> None:
    refusal({**RSA, "n": n, "e": e})


def test_an_rsa_key_of_4096_bits_is_taken() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096).public_key()
    jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    assert public_jwk(jwk, "publicKey")["n"] == jwk["n"]


def test_what_was_not_made_here_is_no_verifying_key() -> None:
    for value in (None, {}, {**EC, "d": "x"}, {**EC, "y": EC["x"]}):
        with pytest.raises(ValueError):
            verifying_key(value)
