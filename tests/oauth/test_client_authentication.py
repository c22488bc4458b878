"""How a client proves itself, and how little it learns when it does not."""

from __future__ import annotations

import base64
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from db.records import AuditAction
from gateway.auth.secrets import new_secret
from tests.gateway import Client
from tests.oauth.asking import GRANT, Asking, basic, error_of, in_body

INVALID_REQUEST = (400, "invalid_request")
INVALID_CLIENT = (401, "invalid_client")


def encoded(text: str) -> str:
    """Every character as a percent-escape."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def basic_of(raw: bytes) -> str:
    return "Basic " + base64.b64encode(raw).decode()


async def test_a_client_proves_itself_in_the_header_or_in_the_body(asking: Asking) -> None:
    assert (await asking.token(GRANT)).status_code == 200
    form = {**GRANT, **in_body(asking.admin)}
    assert (await asking.token(form, authorization=None)).status_code == 200


async def test_the_same_client_id_may_stand_in_the_body_too(asking: Asking) -> None:
    form = {**GRANT, "client_id": asking.admin.client_id}
    assert (await asking.token(form)).status_code == 200


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "bAsIc"])
async def test_the_scheme_has_no_case(asking: Asking, scheme: str) -> None:
    admin = asking.admin
    authorization = basic(admin.client_id, admin.secret).replace("Basic", scheme)
    assert (await asking.token(GRANT, authorization=authorization)).status_code == 200


async def test_both_halves_of_basic_are_form_decoded(asking: Asking) -> None:
    admin = asking.admin
    authorization = basic(encoded(admin.client_id), encoded(admin.secret))
    assert (await asking.token(GRANT, authorization=authorization)).status_code == 200


async def test_a_plus_in_basic_is_a_blank_and_not_itself(asking: Asking) -> None:
    """Read by its audit event: what is no UUID is told by its length."""
    for presented, length in (("a+b%2B%3A", 5), ("a%20b", 3)):
        answer = await asking.token(GRANT, authorization=basic(presented, "x"))
        assert error_of(answer) == INVALID_CLIENT
        [*_, event] = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
        assert event.metadata["clientIdLength"] == length


async def test_two_ways_at_once_are_refused(asking: Asking) -> None:
    admin = asking.admin
    for form in ({"client_secret": admin.secret}, in_body(admin), {"client_secret": "x"}):
        assert error_of(await asking.token({**GRANT, **form})) == INVALID_REQUEST


async def test_two_authorization_headers_are_refused(asking: Asking) -> None:
    value = basic(asking.admin.client_id, asking.admin.secret)
    answer = await asking.running.client.post(
        "/t/acme/oauth2/token",
        data=GRANT,
        headers=[("authorization", value), ("authorization", value)],
    )
    assert error_of(answer) == INVALID_REQUEST


async def test_another_client_id_in_the_body_is_refused(asking: Asking) -> None:
    assert error_of(await asking.token({**GRANT, "client_id": str(uuid4())})) == INVALID_REQUEST


async def test_a_client_that_does_not_prove_itself_is_refused(asking: Asking) -> None:
    admin = asking.admin
    for form in ({}, {"client_id": admin.client_id}, {"client_secret": admin.secret},
                 {**in_body(admin), "client_secret": ""}):  # fmt: skip
        answer = await asking.token({**GRANT, **form}, authorization=None)
        assert error_of(answer) == INVALID_CLIENT


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic YTpi=",
        "Basic YTp",
        "Basic YT pi",
        "Basic  YTpi",
        "Basic\tYTpi",
        "BasicYTpi",
        "Basic YTpi, Basic YTpi",
        basic_of(b"no colon"),
        basic_of(b""),
        basic_of(b":"),
        basic_of(b"a%:b"),
        basic_of(b"a:b%2"),
        basic_of(b"a:%ff"),
        basic_of(b"\xff:b"),
        basic_of(b"a\x00:b"),
        basic_of(b"a:%00"),
        basic_of(b"a:b\n"),
        "Bearer x",
        "Digest username=a",
        "Negotiate YTpi",
        "YTpi",
        "null",
    ],
)
async def test_a_malformed_or_unknown_authorization_is_a_failed_authentication(
    asking: Asking, authorization: str
) -> None:
    """RFC 6749 leaves 400 open too; every failed header is answered alike, with the challenge."""
    answer = await asking.token(GRANT, authorization=authorization)
    assert error_of(answer) == INVALID_CLIENT
    assert answer.headers["www-authenticate"] == 'Basic realm="agentidp", charset="UTF-8"'


@pytest.mark.parametrize(
    "secret",
    [
        "x" * 73,
        "x" * 60_000,
        "é" * 37,
        "{secret}x",
        "{secret}" + "x" * 60,
        "{secret:.71}",
        "{hash}",
        "!",
        " {secret}",
        "{upper}",
    ],
    ids=lambda value: value[:24],
)
async def test_a_wrong_secret_is_refused_whatever_it_is(asking: Asking, secret: str) -> None:
    """Among them the right one with more behind it, its beginning, and its stored hash.

    For a secret in the body RFC 6749 §5.2 would have a 400 too; here there is one answer.
    """
    admin = asking.admin
    storage = asking.running.gateway.storage.read(admin.prefix)
    [kept] = await storage.credentials.of_client(UUID(admin.client_id), asking.running.clock.now)
    wrong = secret.format(secret=admin.secret, hash=kept.secret_hash, upper=admin.secret.upper())
    form = {**GRANT, "client_id": admin.client_id, "client_secret": wrong}
    assert error_of(await asking.token(form, authorization=None)) == INVALID_CLIENT


async def test_every_refused_client_gets_the_same_bytes(stored: Asking) -> None:
    """Unknown, malformed, foreign, wrong, revoked, expired, suspended, decommissioned: one answer.

    What it was stands in the tenant's audit log.
    """
    running, admin = stored.running, stored.admin
    gateway, clock = running.gateway, running.clock
    other = await running.onboard("globex")

    async def member(name: str) -> Client:
        return await running.client_of(admin, email=f"{name}@agents.example")

    revoked, expiring, suspended, retired = [
        await member(name) for name in ("revoked", "expiring", "suspended", "retired")
    ]
    call = await running.as_caller(admin)
    [credential] = await gateway.storage.read(admin.prefix).credentials.of_client(
        UUID(revoked.client_id), clock.now
    )
    await gateway.credentials.revoke(call, credential.credential_id)
    await gateway.agents.suspend(call, UUID(suspended.client_id))
    await gateway.agents.decommission(call, UUID(retired.client_id))
    [kept] = await gateway.storage.read(admin.prefix).credentials.of_client(
        UUID(expiring.client_id), clock.now
    )
    await gateway.credentials.revoke(call, kept.credential_id)
    fresh = await gateway.credentials.generate(
        call, UUID(expiring.client_id), expires_at=clock.now + timedelta(seconds=1)
    )
    expired = Client("acme", expiring.client_id, fresh.secret)
    clock.advance(1)
    before = len(await running.trail(admin))

    refused = {
        "unknown_client": Client("acme", str(uuid4()), new_secret()),
        "unknown_client malformed": Client("acme", "x", new_secret()),
        "unknown_client other spelling": Client("acme", UUID(admin.client_id).hex, admin.secret),
        "unknown_client other tenant's": Client("acme", other.client_id, other.secret),
        "wrong_secret": Client("acme", admin.client_id, new_secret()),
        "no_credential revoked": revoked,
        "no_credential expired": expired,
        "agent_suspended": suspended,
        "no_credential decommissioned": retired,
    }
    answers = [await stored.token(GRANT, client=client) for client in refused.values()]
    answers += [
        await stored.token({**GRANT, **in_body(client)}, authorization=None)
        for client in refused.values()
    ]
    assert {error_of(answer) for answer in answers} == {INVALID_CLIENT}
    assert len({_bytes_of(answer) for answer in answers}) == 1

    events = (await running.trail(admin))[before:]
    assert {event.action for event in events} == {AuditAction.AUTH_FAILED}
    reasons = [each.split()[0] for each in refused]
    assert [event.metadata["reason"] for event in events] == reasons * 2
    assert not await running.trail(other, AuditAction.AUTH_FAILED)


async def test_a_credential_that_has_just_expired_is_too_late(stored: Asking) -> None:
    running, admin = stored.running, stored.admin
    call = await running.as_caller(admin)
    fresh = await running.gateway.credentials.generate(
        call, UUID(admin.client_id), expires_at=running.clock.now + timedelta(seconds=10)
    )
    client = Client("acme", admin.client_id, fresh.secret)
    running.clock.advance(9.999_999)
    assert (await stored.token(GRANT, client=client)).status_code == 200
    running.clock.advance(0.000_001)
    assert error_of(await stored.token(GRANT, client=client)) == INVALID_CLIENT


async def test_several_secrets_of_one_client_are_good_at_once(stored: Asking) -> None:
    running, admin = stored.running, stored.admin
    call = await running.as_caller(admin)
    fresh = await running.gateway.credentials.generate(call, UUID(admin.client_id))
    for secret in (admin.secret, fresh.secret):
        client = Client("acme", admin.client_id, secret)
        assert (await stored.token(GRANT, client=client)).status_code == 200


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
async def test_the_other_endpoints_ask_for_the_same_proof(asking: Asking, endpoint: str) -> None:
    admin = asking.admin
    token = await asking.running.token(admin)
    form = {"token": token}
    for authorization in (None, basic(admin.client_id, "x"), "Digest x", "Basic !"):
        answer = await asking.post(endpoint, form, authorization=authorization)
        assert error_of(answer) == INVALID_CLIENT
    both = await asking.post(endpoint, {**form, "client_secret": admin.secret})
    assert error_of(both) == INVALID_REQUEST
    assert await asking.active(token)


def _bytes_of(answer: httpx.Response) -> tuple[int, bytes, str]:
    headers = dict(answer.headers)
    del headers["x-request-id"]
    return answer.status_code, answer.content, str(sorted(headers.items()))
