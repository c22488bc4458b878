"""What is signed, by which key, in which words: all that comes before a claim is believed.

Sources: RFC 7515, RFC 8725 §3, RFC 9068 §4.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from db.errors import Unauthenticated
from gateway.auth.tokens import MAX_TOKEN_BYTES
from tests.auth import forging
from tests.auth.forging import Forge
from tests.auth.overhearing import overheard
from tests.gateway import RunningGateway

_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
# Of P-256. Source: SEC 2 §2.4.2.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def test_a_token_written_by_hand_with_the_right_key_is_accepted(forge: Forge) -> None:
    """So that each refusal below has one reason."""
    assert await forge.accepts(forge.token())


class TestSignature:
    async def test_the_published_key_alone_is_believed(self, forge: Forge) -> None:
        assert await forge.refuses(forging.signed(forge.stranger, forge.header, forge.claims))

    @pytest.mark.parametrize("alg", ["none", "nOnE", "None", "", None, ["ES256"], ["none"], 0, {}])
    async def test_no_algorithm_is_no_signature(self, forge: Forge, alg: object) -> None:
        text = forging.signing_input({**forge.header, "alg": alg}, forge.claims)
        assert await forge.refuses(f"{text}.")
        assert await forge.refuses(text)
        assert await forge.refuses(forge.token({"alg": alg}))

    async def test_a_header_without_algorithm_is_refused(self, forge: Forge) -> None:
        del forge.header["alg"]
        assert await forge.refuses(forge.token())

    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
    async def test_a_public_key_is_no_shared_secret(self, forge: Forge, alg: str) -> None:
        text = forging.signing_input({**forge.header, "alg": alg}, forge.claims)
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
        published = json.loads(forge.jwks)["keys"][0]
        for secret in (
            forging.public_pem(forge.key),
            forging.public_pem(forge.key).strip(),
            forging.public_der(forge.key),
            json.dumps(published).encode(),
            json.dumps(published, separators=(",", ":")).encode(),
            forge.jwks,
            b"",
        ):
            mac = forging.base64url(hmac.new(secret, text.encode(), digest).digest())
            assert await forge.refuses(f"{text}.{mac}")

    async def test_the_key_fixes_the_algorithm(self, forge: Forge) -> None:
        """Whatever the header says, and whether or not it would fit another of our keys."""
        others = {*forging.ALGORITHMS, "ES384", "ES512", "ES256K", "PS256", "RS512", "Ed25519"}
        ours = forge.header["alg"]
        for alg in (*(others - {ours}), ours.lower(), f"{ours} ", f"{ours}\x00"):
            assert await forge.refuses(forge.token({"alg": alg}))

    async def test_a_key_of_another_kind_or_size_is_not_ours(self, forge: Forge) -> None:
        kinds: list[tuple[forging.PrivateKey, str]] = [
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ec.generate_private_key(ec.SECP256K1()), "ES256K"),
            (rsa.generate_private_key(65_537, 1024), "RS256"),
            *((forging.key_for(each, 1), each) for each in forging.ALGORITHMS),
        ]
        for stranger, alg in kinds:
            for said in (alg, forge.header["alg"]):
                header = {**forge.header, "alg": said}
                assert await forge.refuses(forging.signed(stranger, header, forge.claims))

    @pytest.mark.parametrize(
        "signature", ["", "A", "AA", "A" * 86, "A" * 85 + "=", "!" * 86, "A" * 342, "A" * 4000]
    )
    async def test_a_signature_that_is_none_is_refused(self, forge: Forge, signature: str) -> None:
        head, payload, _ = forge.token().split(".")
        assert await forge.refuses(f"{head}.{payload}.{signature}")

    async def test_a_signature_has_its_own_length(self, forge: Forge) -> None:
        text = forging.signing_input(forge.header, forge.claims)
        good = forging.signature(forge.key, text.encode())
        assert await forge.accepts(f"{text}.{forging.base64url(good)}")
        for wrong in (good[:-1], good[1:], good + b"\0", b"\0" + good, good + good):
            assert await forge.refuses(f"{text}.{forging.base64url(wrong)}")

    async def test_the_form_that_certificates_have_is_no_jws_signature(self) -> None:
        """RFC 7518 §3.4: r and s, and no DER around them."""
        forge = await Forge.of("ES256")
        assert isinstance(forge.key, ec.EllipticCurvePrivateKey)
        text = forging.signing_input(forge.header, forge.claims)
        der = forge.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        assert await forge.refuses(f"{text}.{forging.base64url(der)}")

    async def test_a_changed_payload_is_refused(self, forge: Forge) -> None:
        head, _, signature = forge.token().split(".")
        wider = forging.base64url(json.dumps({**forge.claims, "scope": "audit:read"}).encode())
        assert await forge.refuses(f"{head}.{wider}.{signature}")


class TestTwin:
    """ES256 has two signatures for each one that was made: (r, s) and (r, n − s). Whoever has the
    token can write the other, which is as good, and the same token: same jti, same end. What
    revokes the one revokes the other, because revocation never looks at the text."""

    def twin(self, token: str) -> str:
        text, _, signature = token.rpartition(".")
        octets = base64.urlsafe_b64decode(signature + "==")
        s = int.from_bytes(octets[32:])
        return f"{text}.{forging.base64url(octets[:32] + (_ORDER - s).to_bytes(32))}"

    async def test_it_is_the_same_token(self) -> None:
        forge = await Forge.of("ES256")
        token = forge.token()
        assert self.twin(token) != token
        first = await forge.authority.verify(token, forging.NOW)
        assert await forge.authority.verify(self.twin(token), forging.NOW) == first

    @pytest.mark.parametrize("revoked", ["itself", "its twin"])
    async def test_it_is_revoked_with_the_other(
        self, in_memory: RunningGateway, revoked: str
    ) -> None:
        admin = await in_memory.onboard()
        token = await in_memory.token(admin)
        both = [token, self.twin(token)]
        for each in both:
            await in_memory.gateway.authenticator.bearer([f"Bearer {each}"], in_memory.clock.now)
        call = await in_memory.as_caller(admin)
        await in_memory.gateway.tokens.revoke(call, both[revoked == "its twin"])
        for each in both:
            with pytest.raises(Unauthenticated):
                await in_memory.gateway.authenticator.bearer([f"Bearer {each}"], call.now)


class TestHeader:
    @pytest.mark.parametrize(
        "kid",
        ["../../etc/passwd", "' or 1=1--", "x" * 4000, 1, None, "", ["{kid}"], {"{kid}": 1}, True,
         "http://127.0.0.1/key", "\ud800", "{kid} ", "\x00"],
        ids=lambda value: ascii(value)[:24],
    )  # fmt: skip
    async def test_a_kid_names_a_key_of_the_ring_or_nothing(
        self, forge: Forge, kid: object
    ) -> None:
        ours = forge.header["kid"]
        if isinstance(kid, str):
            kid = kid.replace("{kid}", ours)
        if isinstance(kid, list):
            kid = [ours]
        assert await forge.accepts(forge.token())
        with overheard() as heard:
            assert await forge.refuses(forge.token({"kid": kid}))
        assert heard == []

    async def test_a_missing_kid_is_refused(self, forge: Forge) -> None:
        del forge.header["kid"]
        assert await forge.refuses(forge.token())

    @pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t"])
    async def test_a_key_that_the_token_brings_along_is_never_used(
        self, forge: Forge, name: str
    ) -> None:
        brought: dict[str, object] = {
            "jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/cert",
            "jwk": forging.jwk_of(forge.stranger), "x5c": ["AAAA"], "x5t": "AAAA",
        }  # fmt: skip
        header = {**forge.header, name: brought[name]}
        strange = {**header, "kid": forging.kid_of(forge.stranger)}
        assert await forge.accepts(forge.token())
        with overheard() as heard:
            assert await forge.refuses(forging.signed(forge.stranger, header, forge.claims))
            assert await forge.refuses(forging.signed(forge.stranger, strange, forge.claims))
            assert await forge.accepts(forging.signed(forge.key, header, forge.claims))
        assert heard == []

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
    async def test_what_we_would_have_to_understand_is_refused(
        self, forge: Forge, header: dict[str, Any]
    ) -> None:
        assert await forge.refuses(forge.token(header))

    @pytest.mark.parametrize(
        "typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"]
    )
    async def test_an_access_token_says_so_in_any_case(self, forge: Forge, typ: str) -> None:
        assert await forge.accepts(forge.token({"typ": typ}))

    @pytest.mark.parametrize(
        "typ",
        ["JWT", "dpop+jwt", "id_token", "", None, 1, ["at+jwt"], "at+jwt ", "at-jwt", "jwt+at"],
    )
    async def test_any_other_kind_of_token_is_refused(self, forge: Forge, typ: object) -> None:
        assert await forge.refuses(forge.token({"typ": typ}))

    async def test_a_token_without_a_type_is_refused(self, forge: Forge) -> None:
        del forge.header["typ"]
        assert await forge.refuses(forge.token())

    async def test_members_that_are_there_twice_help_nobody(self, forge: Forge) -> None:
        kid = forge.header["kid"]
        alg = forge.header["alg"]
        for header in (
            f'{{"alg":"none","alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}',
            f'{{"alg":"{alg}","alg":"none","typ":"at+jwt","kid":"{kid}"}}',
            f'{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}","kid":"{kid}"}}',
            f'{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}","x":{{"y":1,"y":2}}}}',
        ):
            text = forging.signing_input(header.encode(), forge.claims)
            assert await forge.refuses(f"{text}.")
            for key in (forge.key, forge.stranger):
                assert await forge.refuses(forging.signed(key, header.encode(), forge.claims))

    @pytest.mark.parametrize("deep", ["[", '{"x":'])
    async def test_a_deep_header_is_a_refusal_and_no_fault(self, forge: Forge, deep: str) -> None:
        known = json.dumps(forge.header)[:-1]
        for depth in (100, 600):
            inside = deep * depth + "1" + ("]" if deep == "[" else "}") * depth
            header = f'{known},"x":{inside}}}'.encode()
            assert await forge.refuses(forging.signed(forge.stranger, header, forge.claims))
        assert await forge.refuses(
            forging.signed(forge.key, f'{known},"x":{"[" * 5000}'.encode(), forge.claims)
        )

    @pytest.mark.parametrize(
        "header",
        [b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b'{"alg":"ES256"', b"[" * 3000,
         b'{"a":' * 1000],
        ids=lambda value: repr(value[:12]),
    )  # fmt: skip
    async def test_a_header_that_is_no_object_is_refused(self, forge: Forge, header: bytes) -> None:
        assert await forge.refuses(forging.signed(forge.key, header, forge.claims))


class TestText:
    @pytest.mark.parametrize(
        "changed",
        ["{t}=", "{t}==", " {t}", "{t} ", "{t}\n", "{t}.", ".{t}", "{t}.x", "{t}é", "{t}\x00",
         "x{t}", "\ud800{t}"],
        ids=ascii,
    )  # fmt: skip
    async def test_another_spelling_of_a_good_token_is_refused(
        self, forge: Forge, changed: str
    ) -> None:
        assert await forge.refuses(changed.replace("{t}", forge.token()))

    async def test_standard_base64_is_another_alphabet(self, forge: Forge) -> None:
        many = (forge.token(jti=str(uuid4())) for _ in range(1000))
        token = next(each for each in many if "-" in each.split(".")[2])
        assert await forge.refuses(token.replace("-", "+"))

    async def test_the_bits_that_a_last_character_has_too_many_are_zero(self, forge: Forge) -> None:
        """Others would decode to the same bytes, and be another spelling of the same token."""
        tried = 0
        for place in range(3):
            parts = forge.token().split(".")
            if spare := {2: 4, 3: 2}.get(len(parts[place]) % 4):
                last = _ALPHABET.index(parts[place][-1])
                for bits in range(1, 2**spare):
                    parts[place] = parts[place][:-1] + _ALPHABET[last | bits]
                    assert await forge.refuses(".".join(parts))
                    tried += 1
        assert tried

    @pytest.mark.parametrize("text", ["", ".", "..", "...", "a.b.c", "x", "é.é.é", "{}.{}.{}"])
    async def test_what_is_no_token_is_refused(self, forge: Forge, text: str) -> None:
        assert await forge.refuses(text)

    async def test_a_token_beyond_the_limit_is_refused(self, forge: Forge) -> None:
        def of_length(length: int) -> str:
            fill = length - len(forge.token(scope=""))
            near = (forge.token(scope="x" * n) for n in range(fill * 3 // 4 - 4, fill * 3 // 4 + 4))
            return next(token for token in near if len(token) >= length)

        assert await forge.accepts(of_length(MAX_TOKEN_BYTES - 4))
        assert await forge.refuses(of_length(MAX_TOKEN_BYTES + 1))
        assert await forge.refuses("x" * 5_000_000)
