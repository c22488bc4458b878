"""Assertions that prove nothing: each is refused in the same bytes, told apart in the trail alone,
issues nothing and uses nothing up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.records import AuditAction, Credential, CredentialStatus
from tests.auth.forging import base64url, public_der, public_pem, signed, signing_input
from tests.oauth.asking import Asking, error_of
from tests.oauth.signing import ISSUER, Signer, jwk_of, new_key, present, rsa_key

INVALID_CLIENT = (401, "invalid_client")
CHALLENGE = 'Basic realm="agentidp", charset="UTF-8"'


@pytest.fixture(autouse=True)
async def nothing_is_issued(asking: Asking) -> AsyncIterator[None]:
    yield
    assert not await asking.running.trail(asking.admin, AuditAction.TOKEN_ISSUED)
    reader = asking.running.gateway.storage.read(asking.admin.prefix)
    assert not await reader.revocations.batch(UUID(int=0), 1)


@pytest.fixture
async def signer(asking: Asking) -> Signer:
    """With a key of ES256; nothing was issued to make it."""
    key = new_key("ES256")
    running = asking.running
    credential = Credential(
        uuid4(), UUID(asking.admin.client_id), "!", CredentialStatus.ACTIVE, running.clock.now,
        public_key=dict(jwk_of(key)),
    )  # fmt: skip
    async with running.gateway.storage.unit(asking.admin.prefix) as unit:
        await unit.credentials.add(credential)
    return Signer(running, asking.admin.client_id, "ES256", key, credential)


async def refused(asking: Asking, assertion: str, **more: str) -> dict[str, Any]:
    """What the trail says of it; it is answered like every other refusal."""
    before = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
    answer = await present(asking, assertion, **more)
    assert error_of(answer) == INVALID_CLIENT, answer.text
    assert answer.json()["error_description"] == "client authentication failed"
    assert answer.headers["www-authenticate"] == CHALLENGE
    *rest, told = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
    assert len(rest) == len(before)
    assert len(assertion) < 20 or assertion not in repr(told)
    metadata: dict[str, Any] = dict(told.metadata)
    return metadata


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"alg": "none"}, "malformed_assertion"),
        ({"alg": "nOnE"}, "malformed_assertion"),
        ({"alg": None}, "malformed_assertion"),
        ({"alg": ["ES256"]}, "malformed_assertion"),
        ({"alg": "HS256"}, "malformed_assertion"),
        ({"alg": "ES384"}, "malformed_assertion"),
        ({"alg": "ES256K"}, "malformed_assertion"),
        ({"alg": "es256"}, "malformed_assertion"),
        ({"alg": "RS1"}, "malformed_assertion"),
        # Of other kinds than the key is: never asked of it.
        ({"alg": "RS256"}, "no_key"),
        ({"alg": "PS256"}, "no_key"),
        ({"alg": "EdDSA"}, "no_key"),
        ({"alg": "Ed25519"}, "no_key"),
        ({"typ": "at+jwt"}, "malformed_assertion"),
        ({"typ": "application/at+jwt"}, "malformed_assertion"),
        ({"typ": "dpop+jwt"}, "malformed_assertion"),
        ({"typ": "logout+jwt"}, "malformed_assertion"),
        ({"typ": ""}, "malformed_assertion"),
        ({"typ": 1}, "malformed_assertion"),
        ({"typ": ["JWT"]}, "malformed_assertion"),
        ({"crit": ["exp"]}, "malformed_assertion"),
        ({"crit": []}, "malformed_assertion"),
        ({"crit": ["b64"], "b64": True}, "malformed_assertion"),
        ({"crit": ["b64"], "b64": False}, "malformed_assertion"),
        ({"b64": False}, "malformed_assertion"),
        ({"b64": True}, "malformed_assertion"),
        ({"kid": 1}, "malformed_assertion"),
        ({"kid": ["a"]}, "malformed_assertion"),
        ({"kid": {}}, "malformed_assertion"),
    ],
    ids=str,
)
async def test_a_header_that_is_not_to_be_believed(
    asking: Asking, signer: Signer, header: dict[str, Any], reason: str
) -> None:
    assert (await refused(asking, signer.assertion(header)))["reason"] == reason


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": None}, "wrong_audience"),
        ({"aud": [ISSUER]}, "wrong_audience"),
        ({"aud": [ISSUER, "https://evil.example"]}, "wrong_audience"),
        ({"aud": [ISSUER, 1]}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": f"{ISSUER}/oauth2/token"}, "wrong_audience"),
        ({"aud": f"{ISSUER}/"}, "wrong_audience"),
        ({"aud": ISSUER.replace("acme", "globex")}, "wrong_audience"),
        ({"aud": ISSUER.upper()}, "wrong_audience"),
        ({"aud": f"{ISSUER} https://evil.example"}, "wrong_audience"),
        ({"aud": {ISSUER: ISSUER}}, "wrong_audience"),
        ({"aud": ""}, "wrong_audience"),
        ({"iss": None}, "wrong_issuer"),
        ({"iss": ISSUER}, "wrong_issuer"),
        ({"iss": ["x"]}, "wrong_issuer"),
        ({"exp": None}, "expired_assertion"),
        ({"exp": "9999999999"}, "expired_assertion"),
        ({"exp": True}, "expired_assertion"),
        ({"exp": 9999999999.5}, "long_lived_assertion"),
        ({"exp": 0.5}, "expired_assertion"),
        ({"exp": -1}, "expired_assertion"),
        ({"exp": 0}, "expired_assertion"),
        ({"exp": 10**400}, "long_lived_assertion"),
        ({"exp": -(10**400)}, "expired_assertion"),
        ({"exp": 9_999_999_999}, "long_lived_assertion"),
        ({"exp": {}}, "expired_assertion"),
        ({"iat": "now"}, "early_assertion"),
        ({"iat": 10**400}, "early_assertion"),
        ({"iat": 1.5}, "old_assertion"),
        ({"iat": 9999999999.5}, "early_assertion"),
        ({"nbf": 9999999999.5}, "early_assertion"),
        ({"iat": False}, "early_assertion"),
        ({"iat": 0}, "old_assertion"),
        ({"iat": -(10**400)}, "old_assertion"),
        ({"nbf": 10**400}, "early_assertion"),
        ({"nbf": "1"}, "early_assertion"),
        ({"nbf": [1]}, "early_assertion"),
        ({"jti": None}, "no_jti"),
        ({"jti": ""}, "no_jti"),
        ({"jti": "j" * 256}, "no_jti"),
        ({"jti": 7}, "no_jti"),
        ({"jti": ["x"]}, "no_jti"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_claims_that_are_signed_and_prove_nothing(
    asking: Asking, signer: Signer, claims: dict[str, Any], reason: str
) -> None:
    """RFC 7523 leaves an endpoint as the audience, lists, a longer life and a missing `jti` open;
    all of them are refused here."""
    metadata = await refused(asking, signer.assertion(**claims))
    assert metadata == {"reason": reason}


@pytest.mark.parametrize("subject", [None, 1, ["x"], {}, "", "x", "x" * 2000, "' or 1=1 --",
                                     "{acme}", "\x00", "\ud800", "é", "UPPER", "HEX"],
                         ids=lambda value: repr(value)[:12])  # fmt: skip
async def test_a_subject_that_is_no_client(asking: Asking, signer: Signer, subject: Any) -> None:
    if subject == "HEX":
        subject = UUID(signer.client_id).hex
    elif subject == "UPPER":
        subject = f"urn:uuid:{signer.client_id}"
    assertion = signer.assertion(sub=subject, iss=subject)
    metadata = await refused(asking, assertion)
    assert metadata["reason"] == "unknown_client"
    assert set(metadata) == {"reason", "clientIdLength", "clientIdDigest"}


async def test_an_unknown_client_is_told_by_what_it_called_itself(
    asking: Asking, signer: Signer
) -> None:
    stranger = str(uuid4())
    metadata = await refused(asking, signer.assertion(sub=stranger, iss=stranger))
    assert metadata == {"reason": "unknown_client", "clientId": stranger}


async def test_another_client_s_key_signs_for_nobody_else(asking: Asking, signer: Signer) -> None:
    other = Signer(signer.running, signer.client_id, "ES256", new_key("ES256"), signer.credential)
    assert (await refused(asking, other.assertion()))["reason"] == "wrong_signature"
    # The key that it brings along is its own word for it.
    header = {"jwk": jwk_of(other.key)}
    assert (await refused(asking, other.assertion(header)))["reason"] == "wrong_signature"


async def test_a_public_key_is_no_shared_secret(asking: Asking, signer: Signer) -> None:
    """CVE-2022-29217 and CVE-2026-48526: HMAC with what everybody has, under any alg."""
    key: Any = signer.key
    for secret in (public_pem(key), public_der(key), json.dumps(jwk_of(key)).encode(), b""):
        for alg in ("HS256", "ES256"):
            text = signing_input({"alg": alg}, signer.claims)
            mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
            reason = (await refused(asking, f"{text}.{base64url(mac)}"))["reason"]
            assert reason == ("malformed_assertion" if alg == "HS256" else "wrong_signature")


async def test_the_signature_is_over_all_of_it(asking: Asking, signer: Signer) -> None:
    head, payload, signature = signer.assertion().split(".")
    later = base64url(json.dumps({**signer.claims, "exp": signer.claims["exp"] + 1}).encode())
    other_head = base64url(b'{"alg":"ES256","typ":"JWT"}')
    zero = base64url(bytes(64))
    for text in (f"{head}.{later}.{signature}", f"{other_head}.{payload}.{signature}",
                 f"{head}.{payload}.{zero}", f"{head}.{payload}.{base64url(bytes(63))}",
                 f"{head}.{payload}.{base64url(b'x')}"):  # fmt: skip
        assert (await refused(asking, text))["reason"] == "wrong_signature"


async def test_another_spelling_of_a_good_one_is_none(asking: Asking, signer: Signer) -> None:
    head, payload, signature = signer.assertion().split(".")
    padded = base64.urlsafe_b64encode(base64.urlsafe_b64decode(signature + "==")).decode()
    wrong = [
        f"{head}.{payload}.{padded}",
        f"{head}.{payload}.{signature}.",
        f"{head}.{payload}.{signature}.{signature}",
        f".{head}.{payload}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}..{signature}",
        f".{payload}.{signature}",
        "..",
        ".",
        "x",
        f"{head}.{payload}.{signature} ",
        f" {head}.{payload}.{signature}",
        f"{head}.{payload}.{signature[:-1]}é",
        "Bearer " + head,
        json.dumps({"payload": payload, "protected": head, "signature": signature}),
    ]
    for text in wrong:
        metadata = await refused(asking, text)
        assert metadata["reason"] == "malformed_assertion", text
        assert metadata["clientIdLength"] == 0


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{",
        b"{}x",
        b'{"alg":"ES256","alg":"ES256"}',
        b'{"alg":"ES256","x":NaN}',
        b'{"alg":"ES256","x":-Infinity}',
        b'\xef\xbb\xbf{"alg":"ES256"}',
        '{"alg":"ES256"}'.encode("utf-16"),
        b'{"alg":"ES256","x":"\xff"}',
        b'{"alg":"ES256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"alg":"ES256","x":' + b'{"x":' * 200 + b"1" + b"}" * 200 + b"}",
        b'{"alg":"ES256","x":' + b"9" * 5000 + b"}",
        b'{"alg":"ES256","x":"' + b"x" * 9000 + b'"}',
    ],
    ids=lambda value: repr(value[:24]),
)
async def test_parts_that_are_no_plain_objects(asking: Asking, signer: Signer, part: bytes) -> None:
    """Twice the same name, no JSON, too deep, too long: as a header, and as the claims."""
    key: Any = signer.key
    for text in (signed(key, part, signer.claims), signed(key, {"alg": "ES256"}, part)):
        assert (await refused(asking, text))["reason"] == "malformed_assertion"


async def test_a_claim_that_is_there_twice(asking: Asking, signer: Signer) -> None:
    whole = json.dumps(signer.claims)
    for name, value in (("aud", f'"{ISSUER}"'), ("sub", f'"{signer.client_id}"'), ("x", "1")):
        twice = whole[:-1] + f', "{name}": {value}, "{name}": {value}' + "}"
        metadata = await refused(asking, signer.saying(twice.encode()))
        assert metadata["reason"] == "malformed_assertion"


@pytest.mark.parametrize("size", [8192, 40_000])
async def test_one_that_is_too_long(asking: Asking, signer: Signer, size: int) -> None:
    longer = signer.assertion(x="y" * (size * 3 // 4 - 350))
    while len(longer) <= size:
        longer = signer.assertion(x="y" * (size * 3 // 4 - 350 + size + 4 - len(longer)))
    assert (await refused(asking, longer))["reason"] == "malformed_assertion"


async def test_the_seconds_of_its_life(asking: Asking, signer: Signer) -> None:
    """Not after its end; no further ahead than five minutes and the leeway of two clocks."""
    second = int(signer.running.clock.now.timestamp())
    rows: tuple[tuple[dict[str, Any], str], ...] = (
        ({"exp": second}, "expired_assertion"),
        ({"exp": second + 331}, "long_lived_assertion"),
        ({"iat": second + 31}, "early_assertion"),
        ({"nbf": second + 31}, "early_assertion"),
        ({"iat": second - 330}, "old_assertion"),
        ({"exp": second + 0.25}, "expired_assertion"),
        ({"exp": second + 330.5}, "long_lived_assertion"),
        ({"iat": second + 30.5}, "early_assertion"),
        ({"nbf": second + 30.5}, "early_assertion"),
        ({"iat": second - 330.5}, "old_assertion"),
    )
    for claims, reason in rows:
        assert (await refused(asking, signer.assertion(**claims)))["reason"] == reason


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": "1e999"}, "long_lived_assertion"),
        ({"exp": "-1e999"}, "expired_assertion"),
        ({"iat": "1e999"}, "early_assertion"),
        ({"iat": "-1e999"}, "old_assertion"),
        ({"nbf": "1e999"}, "early_assertion"),
    ],
    ids=str,
)
async def test_a_number_that_no_float_can_hold(
    asking: Asking, signer: Signer, claims: dict[str, str], reason: str
) -> None:
    """It is JSON, and read as infinite."""
    [(name, number)] = claims.items()
    text = json.dumps({**signer.claims, name: "?"}).replace('"?"', number)
    assert (await refused(asking, signer.saying(text.encode())))["reason"] == reason


async def test_a_key_that_was_kept_and_would_not_be_taken_proves_nothing(
    asking: Asking, signer: Signer
) -> None:
    weak = rsa_key(bits=1024)
    credential = Credential(
        uuid4(), UUID(signer.client_id), "!", CredentialStatus.ACTIVE, signer.running.clock.now,
        public_key=dict(jwk_of(weak)),
    )  # fmt: skip
    async with signer.running.gateway.storage.unit(asking.admin.prefix) as unit:
        await unit.credentials.add(credential)
    weakly = Signer(signer.running, signer.client_id, "RS256", weak, credential)
    assert (await refused(asking, weakly.assertion()))["reason"] == "no_key"


async def test_an_access_token_is_no_assertion(asking: Asking, signer: Signer) -> None:
    """Neither is what the gateway signs for the client, whatever it says."""
    authority = asking.running.gateway.authority
    tenant = await asking.running.gateway.tenants.get("acme")
    assert tenant is not None
    agent = await asking.running.agent(asking.admin)
    token = await authority.issue(
        tenant, agent, signer.credential, "agents:read", [], asking.running.clock.now
    )
    metadata = await refused(asking, token.access_token)
    assert metadata["reason"] == "malformed_assertion"


async def test_a_secret_is_no_assertion_and_a_key_is_no_secret(
    asking: Asking, signer: Signer
) -> None:
    admin = asking.admin
    assert (await refused(asking, admin.secret))["reason"] == "malformed_assertion"
    for secret in ("!", signer.assertion()):
        form = {"grant_type": "client_credentials", "client_id": admin.client_id}
        answer = await asking.token({**form, "client_secret": secret}, authorization=None)
        assert error_of(answer) == INVALID_CLIENT


async def test_without_a_key_nothing_is_proved(asking: Asking) -> None:
    key = new_key("ES256")
    credential = Credential(
        uuid4(), UUID(asking.admin.client_id), "!", CredentialStatus.ACTIVE,
        asking.running.clock.now, public_key=dict(jwk_of(key)),
    )  # fmt: skip
    keyless = Signer(asking.running, asking.admin.client_id, "ES256", key, credential)
    assert (await refused(asking, keyless.assertion()))["reason"] == "no_key"
