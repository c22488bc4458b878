"""What makes a token ours, whole, and of this time (RFC 9068 §4, RFC 8725)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from db.errors import Unauthenticated
from db.memory.storage import MemoryStorage
from db.records import (
    Agent,
    AgentStatus,
    AgentType,
    Credential,
    CredentialStatus,
    DeploymentEnv,
    Tenant,
    TenantStatus,
)
from gateway.auth.keys import load_keys
from gateway.auth.tokens import MAX_TOKEN_BYTES, TokenAuthority
from tests.auth import forging
from tests.gateway import PUBLIC_URL, memory_settings

NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
SECOND = int(NOW.timestamp())
TTL = 600
LEEWAY = 30
ISSUER = f"{PUBLIC_URL}/t/acme"


@dataclass
class Forge:
    """Writes tokens with the authority's own key; `header` and `claims` are those of a good one."""

    authority: TokenAuthority
    key: ec.EllipticCurvePrivateKey
    header: dict[str, Any]
    claims: dict[str, Any] = field(
        default_factory=lambda: {
            "iss": ISSUER,
            "sub": str(uuid4()),
            "aud": ISSUER,
            "exp": SECOND + TTL,
            "iat": SECOND,
            "nbf": SECOND,
            "jti": str(uuid4()),
            "client_id": str(uuid4()),
            "scope": "agents:read",
            "credential_id": str(uuid4()),
            "gen": [0, 0],
        }
    )

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        return self.saying(claims, header)

    def saying(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        return forging.signed(
            self.key, {**self.header, **(header or {})}, {**self.claims, **claims}
        )

    def without(self, *names: str) -> str:
        left = {name: value for name, value in self.claims.items() if name not in names}
        return forging.signed(self.key, self.header, left)

    def refuses(self, token: str, now: datetime = NOW) -> bool:
        """Refused, in the one sentence that there is; any other exception fails the test."""
        with pytest.raises(Unauthenticated, match=r"^the access token is not accepted$"):
            self.authority.verify(token, now)
        return True

    def accepts(self, token: str, now: datetime = NOW) -> bool:
        self.authority.verify(token, now)
        return True


@pytest.fixture
def forge() -> Forge:
    key = forging.new_key()
    settings = memory_settings(signing_keys=forging.pem(key))
    keys = asyncio.run(load_keys(settings, MemoryStorage(), NOW))
    authority = TokenAuthority(keys, PUBLIC_URL, TTL)
    return Forge(authority, key, {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing.kid})


def records() -> tuple[Tenant, Agent, Credential]:
    tenant = Tenant("acme", "Acme", TenantStatus.ACTIVE, NOW, NOW, token_generation=3)
    agent = Agent(
        uuid4(), "a@b.example", AgentType.CUSTOM, "1.0.0", ("agents:read",), "o",
        DeploymentEnv.DEVELOPMENT, AgentStatus.ACTIVE, NOW, NOW, token_generation=7,
    )  # fmt: skip
    return tenant, agent, Credential(uuid4(), agent.agent_id, "", CredentialStatus.ACTIVE, NOW)


def test_an_issued_token_verifies_to_what_was_put_in(forge: Forge) -> None:
    tenant, agent, credential = records()
    issued = forge.authority.issue(tenant, agent, credential, "agents:read", [], NOW)
    claims = forge.authority.verify(issued.access_token, NOW)
    assert (claims.sub, claims.client_id) == (agent.agent_id, agent.agent_id)
    assert (claims.iss, claims.aud, claims.slug) == (ISSUER, ISSUER, "acme")
    assert (claims.iat, claims.nbf, claims.exp) == (SECOND, SECOND, SECOND + TTL)
    assert (claims.jti, claims.credential_id) == (issued.jti, credential.credential_id)
    assert claims.scopes == {"agents:read"}
    assert claims.gen == (7, 3)
    assert issued.expires_at == claims.expires_at == datetime.fromtimestamp(SECOND + TTL, UTC)
    assert issued.expires_in == TTL


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


class TestClaims:
    @pytest.mark.parametrize(
        "name", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope",
                 "credential_id", "gen"]
    )  # fmt: skip
    def test_none_may_be_missing_or_null(self, forge: Forge, name: str) -> None:
        assert forge.refuses(forge.without(name))
        assert forge.refuses(forge.saying({name: None}))

    @pytest.mark.parametrize(
        "payload",
        [b"", b"[]", b"null", b"1", b"{", b"\xff\xff", b"[" * 4000, b'{"a":' * 800, b"{}{}"],
        ids=lambda value: repr(value[:12]),
    )
    def test_a_payload_that_is_no_object_is_refused(self, forge: Forge, payload: bytes) -> None:
        assert forge.refuses(forging.signed(forge.key, forge.header, payload))

    @pytest.mark.parametrize("name", ["sub", "jti", "client_id", "credential_id"])
    @pytest.mark.parametrize(
        "value", ["", "x", 1, "{12345678}", ["a"], "x" * 5000, "\ud800", "1234", "٣" * 32],
        ids=lambda value: ascii(value)[:16],
    )  # fmt: skip
    def test_an_id_is_a_uuid(self, forge: Forge, name: str, value: object) -> None:
        assert forge.refuses(forge.saying({name: value}))

    def test_a_jti_in_capitals_is_the_same_jti(self, forge: Forge) -> None:
        jti = str(uuid4())
        claims = forge.authority.verify(forge.token(jti=jti.upper()), NOW)
        assert claims.jti == UUID(jti)

    @pytest.mark.parametrize(
        "gen", [[], [0], [0, 0, 0], 0, "0", ["0", "0"], [None, 0], {"0": 0}, [0.5, 0]], ids=str
    )
    def test_a_generation_is_two_numbers(self, forge: Forge, gen: object) -> None:
        assert forge.refuses(forge.token(gen=gen))

    @pytest.mark.parametrize("scope", [1, ["agents:read"], {}])
    def test_a_scope_is_text(self, forge: Forge, scope: object) -> None:
        assert forge.refuses(forge.token(scope=scope))

    @pytest.mark.parametrize(
        "iss",
        ["", "acme", PUBLIC_URL, f"{PUBLIC_URL}/t/", f"{ISSUER}/", f"{PUBLIC_URL}/t/acme/t/acme",
         "https://evil.example/t/acme", "http://id.example.com/t/acme", ISSUER.upper(),
         f"{PUBLIC_URL}/t/Acme", f"{PUBLIC_URL}/t/pg_acme", f"{PUBLIC_URL}/t/a'b", [ISSUER], 1,
         f"{PUBLIC_URL}/t/../acme", f"{PUBLIC_URL}/t/acme\x00"],
        ids=str,
    )  # fmt: skip
    def test_the_issuer_is_a_tenant_of_this_deployment(self, forge: Forge, iss: object) -> None:
        assert forge.refuses(forge.token(iss=iss, aud=[iss, ISSUER]))

    @pytest.mark.parametrize(
        "aud", ["", "https://api.example.com", f"{PUBLIC_URL}/t/globex", PUBLIC_URL, [], 1, [1],
                [ISSUER, 1], {ISSUER: 1}, [[ISSUER]], ISSUER + "/"], ids=str
    )  # fmt: skip
    def test_a_token_for_others_is_refused_here(self, forge: Forge, aud: object) -> None:
        assert forge.refuses(forge.token(aud=aud))

    def test_an_audience_among_which_we_are_is_accepted(self, forge: Forge) -> None:
        assert forge.accepts(forge.token(aud=["https://api.example.com", ISSUER]))

    def test_the_issuer_of_another_tenant_is_its_own_audience(self, forge: Forge) -> None:
        other = f"{PUBLIC_URL}/t/globex"
        assert forge.refuses(forge.token(iss=other))
        claims = forge.authority.verify(forge.token(iss=other, aud=other), NOW)
        assert claims.slug == "globex"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(SECOND, UTC) + timedelta(seconds=seconds)


class TestTime:
    """By the clock that is passed in, and by no other."""

    def test_a_token_ends_at_its_second_and_not_before(self, forge: Forge) -> None:
        token = forge.token()
        assert forge.accepts(token, at(TTL - 0.000_001))
        assert forge.refuses(token, at(TTL))
        assert forge.refuses(token, at(TTL + 0.000_001))

    @pytest.mark.parametrize("name", ["iat", "nbf"])
    def test_a_token_from_the_future_is_accepted_within_the_leeway(
        self, forge: Forge, name: str
    ) -> None:
        """Clocks of two machines do not quite agree."""
        token = forge.saying({name: SECOND + LEEWAY})
        assert forge.accepts(token, at(0))
        assert forge.refuses(token, at(-0.000_001))
        assert forge.refuses(forge.saying({name: SECOND + LEEWAY + 1}), at(0))

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    @pytest.mark.parametrize("value", ["1", "", "soon", 0.5, 1e400, [SECOND], {}, "NaN"], ids=str)
    def test_an_instant_is_a_whole_number(self, forge: Forge, name: str, value: object) -> None:
        assert forge.refuses(forge.saying({name: value}))

    @pytest.mark.parametrize(
        "exp",
        [0, -1, -(10**400), 10**400, 2**63, 2**64, 253_402_300_800],
        ids=lambda n: hex(n)[:12],
    )
    def test_an_end_that_nothing_can_hold_is_refused(self, forge: Forge, exp: int) -> None:
        payload = json.dumps(forge.claims).replace(f'"exp": {SECOND + TTL}', f'"exp": {exp}')
        assert forge.refuses(forging.signed(forge.key, forge.header, payload.encode()))

    @pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity", "1e400", "0x7fffffff", "+1"])
    def test_what_is_no_json_number_is_refused(self, forge: Forge, exp: str) -> None:
        payload = json.dumps(forge.claims).replace(f'"exp": {SECOND + TTL}', f'"exp": {exp}')
        assert exp in payload
        assert forge.refuses(forging.signed(forge.key, forge.header, payload.encode()))


class TestRotation:
    async def test_every_key_of_the_ring_verifies_and_the_first_signs(self) -> None:
        old, new = forging.new_key(), forging.new_key()
        before = await self.authority(old)
        during = await self.authority(new, old)
        after = await self.authority(new)
        old_token, new_token = self.issued(before), self.issued(during)
        assert before.verify(old_token, NOW).jti
        assert during.verify(old_token, NOW).jti
        assert during.verify(new_token, NOW).jti
        assert after.verify(new_token, NOW).jti
        for authority, token in ((before, new_token), (after, old_token)):
            with pytest.raises(Unauthenticated):
                authority.verify(token, NOW)

    async def authority(self, *keys: ec.EllipticCurvePrivateKey) -> TokenAuthority:
        settings = memory_settings(signing_keys="\n".join(map(forging.pem, keys)))
        return TokenAuthority(await load_keys(settings, MemoryStorage(), NOW), PUBLIC_URL, TTL)

    def issued(self, authority: TokenAuthority) -> str:
        tenant, agent, credential = records()
        return authority.issue(tenant, agent, credential, "a:b", [], NOW).access_token
