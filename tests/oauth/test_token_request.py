"""How a token may be asked for: the form, and everything that is not one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from db.records import AuditAction
from tests.oauth.asking import FORM, GRANT, Asking, basic, error_of, in_body

INVALID_REQUEST = (400, "invalid_request")


@pytest.fixture(autouse=True)
async def nothing_is_issued(asking: Asking, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    issued = await asking.running.trail(asking.admin, AuditAction.TOKEN_ISSUED)
    assert bool(issued) == ("accepted" in request.node.name)


async def test_a_form_is_accepted(asking: Asking) -> None:
    answer = await asking.token(GRANT)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_another_method_is_refused_and_told_which(
    asking: Asking, method: str, endpoint: str
) -> None:
    answer = await asking.running.client.request(method, f"/t/acme/oauth2/{endpoint}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert error_of(answer) == (405, "invalid_request")


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_options_tells_the_method(asking: Asking, endpoint: str) -> None:
    answer = await asking.running.client.options(f"/t/acme/oauth2/{endpoint}")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (200, "POST", b"")


@pytest.mark.parametrize(
    "content_type",
    [FORM, FORM.upper(), f"{FORM}; charset=utf-8", f"{FORM};charset=ISO-8859-1", f"{FORM} ; a=b"],
)
async def test_a_form_of_any_charset_parameter_is_accepted(
    asking: Asking, content_type: str
) -> None:
    """The encoding is UTF-8 by the protocol, and some clients name another without using it."""
    assert (await asking.token(GRANT, content_type=content_type)).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "text/plain", "multipart/form-data; boundary=x", FORM + "x"],
)
@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_another_content_type_or_none_is_refused(
    asking: Asking, endpoint: str, content_type: str | None
) -> None:
    """HTTP would have a 415 for it; OAuth's own word is 400, which its clients can read."""
    answer = await asking.post(endpoint, {**GRANT, "token": "x"}, content_type=content_type)
    assert error_of(answer) == INVALID_REQUEST


async def test_a_json_body_is_refused_even_as_a_form(asking: Asking) -> None:
    body = b'{"grant_type":"client_credentials"}'
    assert error_of(await asking.token(body)) == INVALID_REQUEST


async def test_two_content_types_are_refused(asking: Asking) -> None:
    answer = await asking.running.client.post(
        "/t/acme/oauth2/token",
        content=b"grant_type=client_credentials",
        headers=[
            ("content-type", FORM),
            ("content-type", "application/json"),
            ("authorization", basic(asking.admin.client_id, asking.admin.secret)),
        ],
    )
    assert error_of(answer) == INVALID_REQUEST


@pytest.mark.parametrize("form", [{}, {"grant_type": ""}, {"scope": "agents:read"}])
async def test_a_missing_grant_type_is_refused(asking: Asking, form: dict[str, str]) -> None:
    assert error_of(await asking.token(form)) == INVALID_REQUEST


@pytest.mark.parametrize(
    "grant", ["password", "authorization_code", "CLIENT_CREDENTIALS", "client_credentials ", "x"]
)
async def test_another_grant_type_is_not_supported(asking: Asking, grant: str) -> None:
    answer = await asking.token({"grant_type": grant})
    assert error_of(answer) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    "twice",
    [
        ("grant_type", "client_credentials"),
        ("grant_type", "password"),
        ("client_id", "x"),
        ("scope", "agents:read"),
        ("scope", ""),
        ("no_such_parameter", "x"),
    ],
)
async def test_a_parameter_that_is_there_twice_is_refused(
    asking: Asking, twice: tuple[str, str]
) -> None:
    """Whether it says the same or not, and whether or not it is known (RFC 6749 §3.2)."""
    once = {**GRANT, "client_id": asking.admin.client_id, "scope": "agents:read"}
    form = [*{**once, "no_such_parameter": "x"}.items(), twice]
    assert error_of(await asking.token(form)) == INVALID_REQUEST


async def test_unknown_parameters_are_ignored_and_the_request_accepted(asking: Asking) -> None:
    form = {**GRANT, "no_such_parameter": "x", "audience": "y", "": "z"}
    assert (await asking.token(form)).status_code == 200


async def test_parameters_without_a_value_count_as_omitted_and_the_rest_is_accepted(
    asking: Asking,
) -> None:
    form = b"grant_type=client_credentials&scope=&client_secret=&client_id&&resource=&=&"
    answer = await asking.token(form)
    assert answer.status_code == 200
    assert "agents:read" in answer.json()["scope"]


@pytest.mark.parametrize("query", ["", "&grant_type=client_credentials"])
async def test_credentials_in_the_uri_are_not_read(asking: Asking, query: str) -> None:
    """They are passed over, as whatever else stands there: the client has then proved nothing."""
    admin = asking.admin
    uri = f"?client_id={admin.client_id}&client_secret={admin.secret}{query}"
    answer = await asking.token(GRANT, authorization=None, query=uri)
    assert error_of(answer) == (401, "invalid_client")
    answer = await asking.token(in_body(admin), authorization=None, query=f"?{query}")
    assert error_of(answer) == INVALID_REQUEST


@pytest.mark.parametrize(
    "broken",
    [b"%", b"%4", b"%zz", b"%u0041", b"a%", b"%-1"],
    ids=lambda value: value.decode(),
)
async def test_a_broken_percent_escape_is_refused(asking: Asking, broken: bytes) -> None:
    for form in (b"x=" + broken, broken + b"=x", b"client_id=" + broken):
        answer = await asking.token(b"grant_type=client_credentials&" + form)
        assert error_of(answer) == INVALID_REQUEST


@pytest.mark.parametrize(
    "unstorable",
    [b"%00", b"\x00", b"%01", b"%0A", b"%0d", b"\t", b"%7F", b"%ff", b"\xff", b"%C0%80",
     b"%ED%A0%80", b"%F4%90%80%80"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("name", [b"client_id", b"client_secret", b"grant_type", b"no_such"])
async def test_what_no_field_can_hold_is_refused(
    asking: Asking, name: bytes, unstorable: bytes
) -> None:
    """NUL and other controls, bytes that are no UTF-8, overlong forms, halves of surrogates."""
    form = b"grant_type=client_credentials&x=y"
    if name == b"grant_type":
        form = b"x=y"
    answer = await asking.token(form + b"&" + name + b"=a" + unstorable, authorization=None)
    assert error_of(answer) == INVALID_REQUEST


async def test_a_body_of_64_kib_is_accepted_and_one_byte_more_is_not(asking: Asking) -> None:
    form = b"grant_type=client_credentials&x="
    assert (await asking.token(form.ljust(65_536, b"x"))).status_code == 200
    answer = await asking.token(form.ljust(65_537, b"x"))
    assert error_of(answer) == (413, "invalid_request")
    assert answer.headers["connection"] == "close"


async def test_a_body_is_counted_as_it_comes_not_as_it_says(asking: Asking) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 8192

    answer = await asking.running.client.post(
        "/t/acme/oauth2/token", content=endless(), headers={"content-type": FORM}
    )
    assert error_of(answer) == (413, "invalid_request")
    assert sent == 9


async def test_a_body_of_thousands_of_parameters_is_refused(asking: Asking) -> None:
    form = [*GRANT.items(), *((f"p{n}", "x") for n in range(10_000))]
    answer = await asking.token(form[:6000])
    assert error_of(answer) == INVALID_REQUEST


@pytest.mark.parametrize(
    "slug",
    ["nobody", "Acme", "ACME", "acme_", "pg_acme", "registry", "a" * 64, "a;drop", "a'b", "%00",
     "acm%C3%A9", "acme%20", "acme%2fx", "{acme}"],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_an_unknown_tenant_is_not_found(asking: Asking, endpoint: str, slug: str) -> None:
    answer = await asking.post(endpoint, {**GRANT, "token": "x"}, slug=slug)
    assert error_of(answer) == (404, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["/t", "/t/", "/t/acme", "/t/acme/oauth2", "/t/acme/oauth2/tokens", "/tacme/oauth2/token",
     "/toauth2/token", "/t/acme/oauth2/token/x", "/t/acme/.well-known/x", "/t//oauth2/token"],
)  # fmt: skip
async def test_an_unknown_path_of_a_tenant_is_not_found(asking: Asking, path: str) -> None:
    answer = await asking.running.client.post(path, data=GRANT)
    assert error_of(answer) == (404, "invalid_request")
