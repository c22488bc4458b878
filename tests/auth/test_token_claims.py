"""What a token says: whose it is, for whom, until when (RFC 9068 §2, RFC 7519 §4).

Each is signed with the right key: the claim alone is wrong.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.auth import forging
from tests.auth.forging import ISSUER, NOW, SECOND, TTL, Forge
from tests.gateway import PUBLIC_URL

LEEWAY = 30


class TestClaims:
    @pytest.mark.parametrize(
        "name", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope",
                 "credential_id", "gen"]
    )  # fmt: skip
    async def test_none_may_be_missing_or_null(self, forge: Forge, name: str) -> None:
        assert await forge.refuses(forge.without(name))
        assert await forge.refuses(forge.saying({name: None}))

    @pytest.mark.parametrize(
        "payload",
        [b"", b"[]", b"null", b"1", b"{", b"\xff\xff", b"[" * 4000, b'{"a":' * 800, b"{}{}"],
        ids=lambda value: repr(value[:12]),
    )
    async def test_a_payload_that_is_no_object_is_refused(
        self, forge: Forge, payload: bytes
    ) -> None:
        assert await forge.refuses(forging.signed(forge.key, forge.header, payload))

    async def test_a_member_that_is_there_twice_is_not_guessed_at(self, forge: Forge) -> None:
        whole = json.dumps(forge.claims)[:-1]
        assert await forge.accepts(forging.signed(forge.key, forge.header, f"{whole}}}".encode()))
        for name in ("jti", "scope", "exp", "unknown"):
            member = json.dumps({name: forge.claims.get(name)})[1:]
            said = (
                f"{whole},{member}" if name in forge.claims else f"{whole},{member[:-1]},{member}"
            )
            assert await forge.refuses(forging.signed(forge.key, forge.header, said.encode()))

    @pytest.mark.parametrize("deep", ["[", '{"x":'])
    async def test_a_deep_payload_is_a_refusal_and_no_fault(self, forge: Forge, deep: str) -> None:
        whole = json.dumps(forge.claims)[:-1]
        said = f'{whole},"x":{deep * 800}'.encode()
        assert await forge.refuses(forging.signed(forge.key, forge.header, said))

    @pytest.mark.parametrize("text", [r'"\ud800"', '"\x00"', '"\n"', '"\\x"'], ids=ascii)
    async def test_text_that_is_none_is_refused(self, forge: Forge, text: str) -> None:
        said = json.dumps(forge.claims).replace('"agents:read"', text)
        assert text in said
        assert await forge.refuses(forging.signed(forge.key, forge.header, said.encode()))

    @pytest.mark.parametrize("name", ["sub", "jti", "client_id", "credential_id"])
    @pytest.mark.parametrize(
        "value", ["", "x", 1, "{12345678}", ["a"], "x" * 5000, "\ud800", "1234", "٣" * 32],
        ids=lambda value: ascii(value)[:16],
    )  # fmt: skip
    async def test_an_id_is_a_uuid(self, forge: Forge, name: str, value: object) -> None:
        assert await forge.refuses(forge.saying({name: value}))

    async def test_a_jti_in_capitals_is_the_same_jti(self, forge: Forge) -> None:
        jti = str(uuid4())
        claims = await forge.authority.verify(forge.token(jti=jti.upper()), NOW)
        assert claims.jti == UUID(jti)

    @pytest.mark.parametrize(
        "gen", [[], [0], [0, 0, 0], 0, "0", ["0", "0"], [None, 0], {"0": 0}, [0.5, 0]], ids=str
    )
    async def test_a_generation_is_two_numbers(self, forge: Forge, gen: object) -> None:
        assert await forge.refuses(forge.token(gen=gen))

    @pytest.mark.parametrize("scope", [1, ["agents:read"], {}])
    async def test_a_scope_is_text(self, forge: Forge, scope: object) -> None:
        assert await forge.refuses(forge.token(scope=scope))

    @pytest.mark.parametrize(
        "iss",
        ["", "acme", PUBLIC_URL, f"{PUBLIC_URL}/t/", f"{ISSUER}/", f"{PUBLIC_URL}/t/acme/t/acme",
         "https://evil.example/t/acme", "http://id.example.com/t/acme", ISSUER.upper(),
         f"{PUBLIC_URL}/t/Acme", f"{PUBLIC_URL}/t/pg_acme", f"{PUBLIC_URL}/t/a'b", [ISSUER], 1,
         f"{PUBLIC_URL}/t/../acme", f"{PUBLIC_URL}/t/acme\x00"],
        ids=str,
    )  # fmt: skip
    async def test_the_issuer_is_a_tenant_of_this_deployment(
        self, forge: Forge, iss: object
    ) -> None:
        assert await forge.refuses(forge.token(iss=iss, aud=[iss, ISSUER]))

    @pytest.mark.parametrize(
        "aud", ["", "https://api.example.com", f"{PUBLIC_URL}/t/globex", PUBLIC_URL, [], 1, [1],
                [ISSUER, 1], {ISSUER: 1}, [[ISSUER]], ISSUER + "/"], ids=str
    )  # fmt: skip
    async def test_a_token_for_others_is_refused_here(self, forge: Forge, aud: object) -> None:
        assert await forge.refuses(forge.token(aud=aud))

    async def test_an_audience_among_which_we_are_is_accepted(self, forge: Forge) -> None:
        assert await forge.accepts(forge.token(aud=["https://api.example.com", ISSUER]))

    async def test_the_issuer_of_another_tenant_is_its_own_audience(self, forge: Forge) -> None:
        other = f"{PUBLIC_URL}/t/globex"
        assert await forge.refuses(forge.token(iss=other))
        claims = await forge.authority.verify(forge.token(iss=other, aud=other), NOW)
        assert claims.slug == "globex"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(SECOND, UTC) + timedelta(seconds=seconds)


class TestTime:
    """By the clock that is passed in, and by no other."""

    async def test_a_token_ends_at_its_second_and_not_before(self, forge: Forge) -> None:
        token = forge.token()
        assert await forge.accepts(token, at(TTL - 0.000_001))
        assert await forge.refuses(token, at(TTL))
        assert await forge.refuses(token, at(TTL + 0.000_001))

    @pytest.mark.parametrize("name", ["iat", "nbf"])
    async def test_a_token_from_the_future_is_accepted_within_the_leeway(
        self, forge: Forge, name: str
    ) -> None:
        """Clocks of two machines do not quite agree."""
        token = forge.saying({name: SECOND + LEEWAY})
        assert await forge.accepts(token, at(0))
        assert await forge.refuses(token, at(-0.000_001))
        assert await forge.refuses(forge.saying({name: SECOND + LEEWAY + 1}), at(0))

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    @pytest.mark.parametrize("value", ["1", "", "soon", 0.5, 1e400, [SECOND], {}, "NaN"], ids=str)
    async def test_an_instant_is_a_whole_number(
        self, forge: Forge, name: str, value: object
    ) -> None:
        assert await forge.refuses(forge.saying({name: value}))

    @pytest.mark.parametrize(
        "exp",
        [0, -1, -(10**400), 10**400, 2**63, 2**64, 253_402_300_800],
        ids=lambda n: hex(n)[:12],
    )
    async def test_an_end_that_nothing_can_hold_is_refused(self, forge: Forge, exp: int) -> None:
        payload = json.dumps(forge.claims).replace(f'"exp": {SECOND + TTL}', f'"exp": {exp}')
        assert await forge.refuses(forging.signed(forge.key, forge.header, payload.encode()))

    @pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity", "1e400", "0x7fffffff", "+1"])
    async def test_what_is_no_json_number_is_refused(self, forge: Forge, exp: str) -> None:
        payload = json.dumps(forge.claims).replace(f'"exp": {SECOND + TTL}', f'"exp": {exp}')
        assert exp in payload
        assert await forge.refuses(forging.signed(forge.key, forge.header, payload.encode()))
