"""What is signed, by which key, in which words: all that comes before a claim is believed.

Sources: RFC 7515, RFC 8725 §3, RFC 9068 §4.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.tokens import MAX_TOKEN_BYTES
from tests.auth import forging
from tests.auth.forging import Forge


def test_a_token_written_by_hand_with_the_right_key_is_accepted(forge: Forge) -> None:
    """So that each refusal below has one reason."""
    assert forge.accepts(forge.token())


class TestSignature:
    def test_the_published_key_alone_is_believed(self, forge: Forge) -> None:
        assert forge.refuses(forging.signed(forging.new_key(), forge.header, forge.claims))

    @pytest.mark.parametrize("alg", ["none", "nOnE", "None", "", None, ["ES256"], ["none"], 0, {}])
    def test_no_algorithm_is_no_signature(self, forge: Forge, alg: object) -> None:
        text = forging.signing_input({**forge.header, "alg": alg}, forge.claims)
        assert forge.refuses(f"{text}.")
        assert forge.refuses(text)
        assert forge.refuses(forge.token({"alg": alg}))

    def test_a_header_without_algorithm_is_refused(self, forge: Forge) -> None:
        del forge.header["alg"]
        assert forge.refuses(forge.token())

    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
    def test_a_public_key_is_no_shared_secret(self, forge: Forge, alg: str) -> None:
        text = forging.signing_input({**forge.header, "alg": alg}, forge.claims)
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
        published = json.loads(forge.authority.jwks)["keys"][0]
        for secret in (
            forging.public_pem(forge.key),
            forging.public_pem(forge.key).strip(),
            forging.public_der(forge.key),
            json.dumps(published).encode(),
            json.dumps(published, separators=(",", ":")).encode(),
            forge.authority.jwks,
            b"",
        ):
            mac = forging.base64url(hmac.new(secret, text.encode(), digest).digest())
            assert forge.refuses(f"{text}.{mac}")

    @pytest.mark.parametrize(
        "alg", ["ES384", "ES512", "RS256", "PS256", "EdDSA", "es256", "ES256K"]
    )
    def test_the_key_fixes_the_algorithm(self, forge: Forge, alg: str) -> None:
        assert forge.refuses(forge.token({"alg": alg}))

    def test_a_key_of_another_size_is_not_ours(self, forge: Forge) -> None:
        stranger = ec.generate_private_key(ec.SECP384R1())
        for alg in ("ES256", "ES384"):
            header = {**forge.header, "alg": alg}
            assert forge.refuses(forging.signed(stranger, header, forge.claims))

    @pytest.mark.parametrize(
        "signature", ["", "A", "AA", "A" * 86, "A" * 85 + "=", "!" * 86, "A" * 4000]
    )
    def test_a_signature_that_is_none_is_refused(self, forge: Forge, signature: str) -> None:
        head, payload, _ = forge.token().split(".")
        assert forge.refuses(f"{head}.{payload}.{signature}")

    def test_a_changed_payload_is_refused(self, forge: Forge) -> None:
        head, _, signature = forge.token().split(".")
        wider = forging.base64url(json.dumps({**forge.claims, "scope": "audit:read"}).encode())
        assert forge.refuses(f"{head}.{wider}.{signature}")


class TestHeader:
    @pytest.mark.parametrize(
        "kid",
        ["../../etc/passwd", "' or 1=1--", "x" * 4000, 1, None, "", ["{kid}"], {"{kid}": 1}, True,
         "http://127.0.0.1/key", "\ud800", "{kid} ", "\x00"],
        ids=lambda value: ascii(value)[:24],
    )  # fmt: skip
    def test_a_kid_names_a_key_of_the_ring_or_nothing(self, forge: Forge, kid: object) -> None:
        ours = forge.header["kid"]
        if isinstance(kid, str):
            kid = kid.replace("{kid}", ours)
        if isinstance(kid, list):
            kid = [ours]
        assert forge.refuses(forge.token({"kid": kid}))

    def test_a_missing_kid_is_refused(self, forge: Forge) -> None:
        del forge.header["kid"]
        assert forge.refuses(forge.token())

    @pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t"])
    def test_a_key_that_the_token_brings_along_is_never_used(self, forge: Forge, name: str) -> None:
        stranger = forging.new_key()
        brought: dict[str, object] = {
            "jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/cert",
            "jwk": json.loads(forge.authority.jwks)["keys"][0], "x5c": ["AAAA"], "x5t": "AAAA",
        }  # fmt: skip
        header = {**forge.header, name: brought[name]}
        assert forge.refuses(forging.signed(stranger, header, forge.claims))
        assert forge.accepts(forging.signed(forge.key, header, forge.claims))

    @pytest.mark.parametrize(
        "header",
        [
            {"crit": ["exp"]},
            {"crit": ["b64"], "b64": False},
            {"crit": []},
            {"crit": "b64"},
            {"crit": ["unknown"], "unknown": 1},
            {"b64": False},
            {"b64": False, "crit": ["b64"]},
        ],
        ids=str,
    )
    def test_what_we_would_have_to_understand_is_refused(
        self, forge: Forge, header: dict[str, Any]
    ) -> None:
        assert forge.refuses(forge.token(header))

    @pytest.mark.parametrize(
        "typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"]
    )
    def test_an_access_token_says_so_in_any_case(self, forge: Forge, typ: str) -> None:
        assert forge.accepts(forge.token({"typ": typ}))

    @pytest.mark.parametrize(
        "typ",
        ["JWT", "dpop+jwt", "id_token", "", None, 1, ["at+jwt"], "at+jwt ", "at-jwt", "jwt+at"],
    )
    def test_any_other_kind_of_token_is_refused(self, forge: Forge, typ: object) -> None:
        assert forge.refuses(forge.token({"typ": typ}))

    def test_a_token_without_a_type_is_refused(self, forge: Forge) -> None:
        del forge.header["typ"]
        assert forge.refuses(forge.token())

    def test_members_that_are_there_twice_help_nobody(self, forge: Forge) -> None:
        kid = forge.header["kid"]
        for header in (
            f'{{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"{kid}"}}',
            f'{{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"{kid}"}}',
        ):
            text = forging.signing_input(header.encode(), forge.claims)
            assert forge.refuses(f"{text}.")
            assert forge.refuses(forging.signed(forging.new_key(), header.encode(), forge.claims))

    @pytest.mark.parametrize(
        "header",
        [b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b'{"alg":"ES256"', b"[" * 3000,
         b'{"a":' * 1000],
        ids=lambda value: repr(value[:12]),
    )  # fmt: skip
    def test_a_header_that_is_no_object_is_refused(self, forge: Forge, header: bytes) -> None:
        assert forge.refuses(forging.signed(forge.key, header, forge.claims))


class TestText:
    @pytest.mark.parametrize(
        "changed",
        ["{t}=", "{t}==", " {t}", "{t} ", "{t}\n", "{t}.", ".{t}", "{t}.x", "{t}é", "{t}\x00",
         "x{t}", "\ud800{t}"],
        ids=ascii,
    )  # fmt: skip
    def test_another_spelling_of_a_good_token_is_refused(self, forge: Forge, changed: str) -> None:
        assert forge.refuses(changed.replace("{t}", forge.token()))

    def test_standard_base64_is_another_alphabet(self, forge: Forge) -> None:
        token = next(t for t in iter(forge.token, "") if "-" in t.split(".")[2])
        assert forge.refuses(token.replace("-", "+"))

    @pytest.mark.parametrize("text", ["", ".", "..", "...", "a.b.c", "x", "é.é.é", "{}.{}.{}"])
    def test_what_is_no_token_is_refused(self, forge: Forge, text: str) -> None:
        assert forge.refuses(text)

    def test_a_token_beyond_the_limit_is_refused(self, forge: Forge) -> None:
        def of_length(length: int) -> str:
            fill = length - len(forge.token(scope=""))
            near = (forge.token(scope="x" * n) for n in range(fill * 3 // 4 - 4, fill * 3 // 4 + 4))
            return next(token for token in near if len(token) >= length)

        assert forge.accepts(of_length(MAX_TOKEN_BYTES - 4))
        assert forge.refuses(of_length(MAX_TOKEN_BYTES + 1))
        assert forge.refuses("x" * 5_000_000)
