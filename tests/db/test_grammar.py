"""What may be said of a noun: tables of what is accepted and what is not, and laws of both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import grammar
from db.errors import InvalidInput
from db.filters import AgentFilter
from db.records import JSON

EMAILS = [
    "a@b.c",
    "ann@example.com",
    "Ann.Lee+tag@sub.example.co.uk",
    "o'neil!#$%&*/=?^_`{|}~-@example.com",
    "screener@acme.internal",
    "x@localhost.localdomain",
    "a@1.2",
    "x" * 64 + "@example.com",
    "a@" + "b" * 63 + ".example",
    "a@" + ".".join(["b" * 62] * 4) + ".c",
]
NO_EMAILS = [
    "",
    "@",
    "a@",
    "@b.c",
    "a",
    "a@b",
    "a@b@c.d",
    "a b@c.d",
    " a@b.c",
    "a@b.c ",
    "a@b.c\n",
    "a@b.c\x00",
    "a.@b.c",
    ".a@b.c",
    "a..b@c.d",
    "a@b..c",
    "a@.b.c",
    "a@b.c.",
    "a@-b.c",
    "a@b-.c",
    "a@b_c.d",
    '"a b"@c.d',
    "a@[127.0.0.1]",
    "ä@b.c",
    "a@bücher.de",
    "a\ud800@b.c",
    "Ann <a@b.c>",
    "a@b.c,d@e.f",
    "mailto:a@b.c",
    "x" * 65 + "@example.com",
    "a@" + "b" * 64 + ".example",
    "a@" + ".".join(["b" * 62] * 4) + ".cc",
]
VERSIONS = [
    "0.0.0",
    "1.2.3",
    "10.20.30",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-0.3.7",
    "1.0.0-x.7.z.92",
    "1.0.0-x-y-z.--",
    "1.0.0--",
    "1.0.0+20130313144700",
    "1.0.0-beta+exp.sha.5114f85",
    "1.0.0+21AF26D3---117B344092BD",
    "1.0.0+001",
    "999999999999999999999.0.0",
    "1.0.0-0A.is.legal",
    "1.0.0-" + "a" * 58,
]
NO_VERSIONS = [
    "",
    "1",
    "1.2",
    "1.2.3.4",
    "v1.2.3",
    "01.2.3",
    "1.02.3",
    "1.2.03",
    "1.2.3-",
    "1.2.3+",
    "1.2.3-01",
    "1.2.3-a..b",
    "1.2.3-a.",
    "1.2.3+a+b",
    "1.2.3-ä",
    "1.2.3\n",
    " 1.2.3",
    "1.2.3 ",
    "1.2.-3",
    "-1.2.3",
    "1,2,3",
    "١.٢.٣",
    "1.2.3\x00",
    "1.0.0-" + "a" * 59,
]
CAPABILITIES = [
    "a:b",
    "0:0",
    "agents:read",
    "resume.v2:score-all_now",
    "tenant:read",
    "jobs.x:read",
    "a" * 63 + ":" + "b" * 63,
]
NO_CAPABILITIES = [
    "",
    ":",
    "a",
    "a:",
    ":b",
    "a:b:c",
    "A:b",
    "a:B",
    "a b:c",
    "a: b",
    "-a:b",
    "a:.b",
    "_a:b",
    "a:*",
    "*:*",
    "a/b:c",
    "ä:b",
    "a:b\n",
    "a:b\x00",
    "a" * 64 + ":b",
    "a:" + "b" * 64,
    "tenants:read",
    "tenants:anything",
    "jobs:write",
]
SLUGS = ["ab", "a1", "acme", "acme_eu_1", "a" * 24, "pgx", "tenant_1", "x0"]
NO_SLUGS = [
    "",
    "a",
    "1a",
    "_a",
    "a_",
    "a__b",
    "Acme",
    "acme-eu",
    "acme.eu",
    "acme eu",
    "acmé",
    "a" * 25,
    "a" * 64,
    "acme\n",
    "acme\x00",
    'acme"; drop table agents; --',
    "acme'",
    "{t}",
    "pg_catalog",
    "pg_acme",
    "public",
    "registry",
    "tenants",
    "information_schema",
    "postgres",
]


@pytest.mark.parametrize(
    ("accept", "values"),
    [
        (grammar.email, EMAILS),
        (grammar.version, VERSIONS),
        (grammar.slug, SLUGS),
        (grammar.owner, ["a", " a ", "x" * 128, "Überall 🦉", '"{t}']),
    ],
)
def test_a_good_value_is_kept_as_written(accept: Callable[[str], str], values: list[str]) -> None:
    assert [accept(value) for value in values] == values


@pytest.mark.parametrize(
    ("accept", "path", "values"),
    [
        (grammar.email, "email", NO_EMAILS),
        (grammar.version, "version", NO_VERSIONS),
        (grammar.slug, "slug", NO_SLUGS),
        (grammar.owner, "owner", ["", " ", "\t\n", "\u2003", "x" * 129, "a\x00", "a\udfff"]),
    ],
)
def test_a_bad_value_is_refused_by_its_name_and_not_repeated(
    accept: Callable[[str], str], path: str, values: list[str]
) -> None:
    for value in values:
        with pytest.raises(InvalidInput) as refusal:
            accept(value)
        assert refusal.value.path == (path,), value
        assert refusal.value.code == "INVALID_INPUT"
        assert len(value) < 5 or value not in refusal.value.message


def test_a_path_is_the_callers_to_name() -> None:
    for accept in (grammar.email, grammar.version, grammar.slug, grammar.owner):
        with pytest.raises(InvalidInput) as refusal:
            accept("", "adminEmail")
        assert refusal.value.path == ("adminEmail",)


def test_good_capabilities_keep_their_order_and_lose_repetitions() -> None:
    assert grammar.capabilities(CAPABILITIES) == tuple(CAPABILITIES)
    assert grammar.capabilities(["b:b", "a:a", "b:b"]) == ("b:b", "a:a")
    assert all(map(grammar.is_capability, CAPABILITIES))


@pytest.mark.parametrize("value", NO_CAPABILITIES)
def test_a_bad_capability_is_refused_among_good_ones(value: str) -> None:
    for values in ([value], ["a:b", value], [value, "a:b"]):
        with pytest.raises(InvalidInput) as refusal:
            grammar.capabilities(values)
        assert refusal.value.path == ("capabilities",)


def test_an_agent_has_1_to_256_capabilities() -> None:
    assert len(grammar.capabilities([f"a:{n}" for n in range(256)])) == 256
    for count in (0, 257):
        with pytest.raises(InvalidInput):
            grammar.capabilities([f"a:{n}" for n in range(count)])


def test_the_gateways_own_capabilities_are_capabilities() -> None:
    assert len(grammar.GATEWAY_CAPABILITIES) == 8
    assert set(grammar.capabilities(sorted(grammar.GATEWAY_CAPABILITIES))) == (
        grammar.GATEWAY_CAPABILITIES
    )


def test_text_is_counted_in_characters_at_both_ends() -> None:
    for value in ("", "é" * 8, "🦉" * 8):
        assert grammar.text(value, "name", most=8) == value
    assert grammar.text("ab", "name", most=8, least=2) == "ab"
    for value, least in (("é" * 9, 0), ("a", 2)):
        with pytest.raises(InvalidInput) as refusal:
            grammar.text(value, "name", most=8, least=least)
        assert refusal.value.path == ("name",)


@given(text=st.text())
@settings(deadline=None)
def test_text_is_accepted_exactly_when_postgresql_can_hold_it(text: str) -> None:
    try:
        storable = "\x00" not in text and text.encode("utf-8") is not None
    except UnicodeEncodeError:
        storable = False
    try:
        assert grammar.text(text, "name", most=10_000) == text
        accepted = True
    except InvalidInput:
        accepted = False
    assert accepted is storable


@given(before=st.text(), after=st.text(), bad=st.sampled_from(["\x00", "\ud800", "\udfff"]))
@settings(deadline=None)
def test_one_unstorable_character_spoils_any_text(before: str, after: str, bad: str) -> None:
    value = before + bad + after
    for refuse in (
        lambda: grammar.text(value, "x", most=10_000),
        lambda: grammar.owner(value, "x"),
        lambda: grammar.words([value], "x"),
        lambda: grammar.json({value: 1}, "x"),
        lambda: grammar.json([{"a": value}], "x"),
        lambda: AgentFilter(owner=(value,)),
    ):
        with pytest.raises(InvalidInput):
            refuse()


def test_words_are_bounded_in_number_and_length() -> None:
    values = ["a", "x" * 128, "a", '"{t}']
    assert grammar.words(values, "tools") == tuple(values)
    assert grammar.words([], "tools") == ()
    assert len(grammar.words(["a"] * 256, "tools")) == 256
    for bad in (["a"] * 257, [""], ["x" * 129], ["a", "b\x00"]):
        with pytest.raises(InvalidInput) as refusal:
            grammar.words(bad, "tools")
        assert refusal.value.path == ("tools",)


EAST = timezone(timedelta(hours=5))


def test_an_instant_is_brought_to_utc() -> None:
    local = datetime(2026, 5, 17, 12, 0, 0, 1, tzinfo=EAST)
    kept = grammar.instant(local, "expiresAt")
    assert kept == local
    assert kept.isoformat() == "2026-05-17T07:00:00.000001+00:00"


@given(instant=st.datetimes(timezones=st.just(UTC)))
@settings(deadline=None)
def test_every_instant_of_utc_is_kept(instant: datetime) -> None:
    assert grammar.instant(instant, "x") == instant


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 5, 17, tzinfo=UTC).replace(tzinfo=None),
        datetime(1, 1, 1, tzinfo=EAST),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5))),
    ],
)
def test_an_instant_that_utc_does_not_have_is_refused(instant: datetime) -> None:
    with pytest.raises(InvalidInput) as refusal:
        grammar.instant(instant, "expiresAt")
    assert refusal.value.path == ("expiresAt",)


numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2**53) + 1, 2**53 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
values: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def _depth(value: JSON) -> int:
    members = value.values() if isinstance(value, dict) else value
    if isinstance(members, (str, bool, int, float)) or members is None:
        return 1
    return 1 + max(map(_depth, members), default=0)


@given(value=values)
@settings(deadline=None)
def test_an_ordinary_json_value_is_kept_as_it_is(value: JSON) -> None:
    if _depth(value) < grammar.MAX_JSON_DEPTH:
        assert grammar.json(value, "metadata") is value


@pytest.mark.parametrize(
    "number",
    [
        2**53,
        -(2**53),
        10**400,
        -(10**400),
        2.0**53,
        1e308,
        math.inf,
        -math.inf,
        math.nan,
    ],
)
def test_a_number_that_not_every_reader_keeps_is_refused(number: float) -> None:
    values: list[JSON] = [number, [number], {"a": {"b": [number]}}]
    for value in values:
        with pytest.raises(InvalidInput) as refusal:
            grammar.json(value, "metadata")
        assert refusal.value.path == ("metadata",)


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53) + 1, 0, -0.0, 5e-324, 0.1, 2.0**53 - 1])
def test_a_number_that_every_reader_keeps_is_kept(number: float) -> None:
    assert grammar.json([number], "metadata") == [number]


def _nested(levels: int, kind: type) -> JSON:
    value: JSON = 1
    for _ in range(levels - 1):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
def test_a_value_nests_at_most_16_levels(kind: type) -> None:
    deepest = _nested(16, kind)
    assert grammar.json(deepest, "metadata") is deepest
    for levels in (17, 500, 100_000):
        with pytest.raises(InvalidInput) as refusal:
            grammar.json(_nested(levels, kind), "metadata")
        assert refusal.value.path == ("metadata",)


# Each has 16 384 bytes as JSON text, and one more with one more of what it is made of.
LARGEST: list[Callable[[int], JSON]] = [
    lambda more: "x" * (16_382 + more),
    lambda more: "é" * (8_191 + more),
    lambda more: '"' * (8_191 + more),
    lambda more: "\n" * (8_191 + more),
    lambda more: {"x" * (16_378 + more): 1},
    lambda more: [1] * (8_191 + more),
    lambda more: [[]] * (5_461 + more),
    lambda more: [{}] * (5_461 + more),
    lambda more: [None] * (3_276 + more),
]


@pytest.mark.parametrize("make", LARGEST)
def test_a_value_has_at_most_16_kib_as_json(make: Callable[[int], JSON]) -> None:
    largest = make(0)
    size = len(json.dumps(largest, ensure_ascii=False, separators=(",", ":")).encode())
    assert 16_380 < size <= 16_384
    assert grammar.json(largest, "metadata") is largest
    for more in (1, 100_000):
        with pytest.raises(InvalidInput) as refusal:
            grammar.json(make(more), "metadata")
        assert refusal.value.path == ("metadata",)
