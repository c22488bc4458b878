"""Where a request came from, as the trail has it: from whom, and by whose word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Client
from tests.journeys.served import Served, serving

TRAIL = """{ auditEvents(first: 100) { nodes { action ipAddress userAgent metadata } } }"""
SPOOFED = "198.51.100.7"


def failed_login(served: Served, admin: Client, **headers: str) -> dict[str, Any]:
    """The event of a login that fails, with these headers."""
    wrong = Client(admin.slug, admin.client_id, "x")
    answer = served.oauth(wrong, "token", {"grant_type": "client_credentials"}, **headers)
    assert answer.status_code == 401
    body = served.graphql(TRAIL, token=served.token(admin))
    failed = [node for node in body["data"]["auditEvents"]["nodes"]
              if node["action"] == "AUTH_FAILED"]  # fmt: skip
    event: dict[str, Any] = failed[0]
    return event


def test_nobody_s_word_is_taken_unless_it_is_a_proxy_of_ours(served_in_memory: Served) -> None:
    admin = served_in_memory.onboard()
    for name in ("x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "via"):
        event = failed_login(served_in_memory, admin, **{name: SPOOFED})
        assert event["ipAddress"] == "127.0.0.1"
        assert SPOOFED not in str(event)


@pytest.fixture
def behind_a_proxy(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as started:
        yield started


def test_of_a_chain_the_last_that_is_no_proxy_of_ours_is_believed(behind_a_proxy: Served) -> None:
    """What a client writes itself stands further to the left."""
    admin = behind_a_proxy.onboard()
    for chain, kept in (
        (SPOOFED, SPOOFED),
        (f"192.0.2.66, {SPOOFED}", SPOOFED),
        (f"192.0.2.66, {SPOOFED}, 10.1.2.3", SPOOFED),
        (f"127.0.0.1, {SPOOFED}", SPOOFED),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("2001:db8::1", "2001:db8::1"),
        ("x" * 5000, "x" * 64),
    ):
        event = failed_login(behind_a_proxy, admin, **{"x-forwarded-for": chain})
        assert event["ipAddress"] == kept


def test_what_a_client_calls_itself_is_kept_bounded(served_in_memory: Served) -> None:
    admin = served_in_memory.onboard()
    event = failed_login(served_in_memory, admin, **{"user-agent": "x" * 50_000})
    assert event["userAgent"] == "x" * 512
    event = failed_login(served_in_memory, admin, **{"user-agent": "a\tb"})
    assert event["userAgent"] == "a\ufffdb"
