"""Settings that cannot be used stop the process, and say everything that is wrong at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from db.settings import UnsafeSettings
from gateway.settings import GatewaySettings
from tests.auth import forging

PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://app@db.example/id",
    "REDIS_URL": "rediss://cache.example",
    "OPERATOR_TOKEN": "o" * 32,
    "KEY_ENCRYPTION_SECRET": "k" * 32,
    "PUBLIC_URL": "https://id.example.com",
}


def loaded(monkeypatch: pytest.MonkeyPatch, **environment: str) -> GatewaySettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return GatewaySettings.load()


def problems(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    with pytest.raises(UnsafeSettings) as refused:
        loaded(monkeypatch, **environment)
    for problem in refused.value.problems:
        assert f"  - {problem}" in refused.value.message.splitlines()
    return refused.value.problems


def test_nothing_needs_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch)
    assert settings.in_memory
    assert settings.operator_token is None
    assert settings.issuer_base == "http://127.0.0.1:8000"
    assert settings.serve_graphiql
    assert settings.allow_introspection


def test_the_production_shape_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **PRODUCTION)
    assert settings.issuer_base == "https://id.example.com"
    assert not settings.serve_graphiql
    assert not settings.allow_introspection
    assert not settings.migrate_at_start


def test_every_problem_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one setting and those between two."""
    found = problems(
        monkeypatch,
        ENVIRONMENT="production",
        PORT="99999",
        BCRYPT_COST="9",
        TOKEN_TTL_SECONDS="soon",
        KEY_ENCRYPTION_SECRET="short",
        REDIS_URL="redis://cache.example",
    )
    assert [problem.split(":")[0] for problem in found if problem.split(":")[0].isupper()] == [
        "PORT",
        "KEY_ENCRYPTION_SECRET",
        "TOKEN_TTL_SECONDS",
        "BCRYPT_COST",
    ]
    assert found[4:] == [
        "DATABASE_URL=memory:// cannot stand beside a real REDIS_URL",
        "ENVIRONMENT=production needs a DATABASE_URL: memory:// forgets",
        "ENVIRONMENT=production needs OPERATOR_TOKEN",
        "ENVIRONMENT=production needs a PUBLIC_URL with https",
    ]


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("OPERATOR_TOKEN", "ENVIRONMENT=production needs OPERATOR_TOKEN"),
        ("PUBLIC_URL", "ENVIRONMENT=production needs a PUBLIC_URL with https"),
        (
            "KEY_ENCRYPTION_SECRET",
            "DATABASE_URL needs SIGNING_KEYS, or KEY_ENCRYPTION_SECRET to make them",
        ),
    ],
)
def test_production_does_not_start_without(
    monkeypatch: pytest.MonkeyPatch, missing: str, told: str
) -> None:
    environment = {name: value for name, value in PRODUCTION.items() if name != missing}
    assert problems(monkeypatch, **environment) == [told]


def test_production_does_not_start_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**PRODUCTION, "DATABASE_URL": "memory://", "REDIS_URL": "memory://"}
    assert problems(monkeypatch, **environment) == [
        "ENVIRONMENT=production needs a DATABASE_URL: memory:// forgets"
    ]


@pytest.mark.parametrize("url", ["http://id.example.com", "http://10.0.0.1"])
def test_production_needs_https_beyond_the_machine(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert problems(monkeypatch, **{**PRODUCTION, "PUBLIC_URL": url}) == [
        "ENVIRONMENT=production needs a PUBLIC_URL with https"
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:80"])
def test_on_one_machine_production_may_do_without(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert loaded(monkeypatch, **{**PRODUCTION, "PUBLIC_URL": url}).issuer_base == url


@pytest.mark.parametrize("name", ["OPERATOR_TOKEN", "KEY_ENCRYPTION_SECRET"])
def test_a_short_secret_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    [problem] = problems(monkeypatch, **{name: "hunter2-" * 3})
    assert problem == f"{name}: expected at least 32 characters"
    assert loaded(monkeypatch, **{name: "x" * 32})


@pytest.mark.parametrize(
    "url", ["ftp://id.example.com", "id.example.com", "https://", "https://a.example/?q",
            "https://a.example/#f", "http://["]
)  # fmt: skip
def test_a_public_url_that_could_be_no_issuer_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    [problem] = problems(monkeypatch, PUBLIC_URL=url)
    assert problem.startswith("PUBLIC_URL: ")


def test_a_public_url_is_used_without_its_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, PUBLIC_URL="https://id.example.com/base/")
    assert settings.issuer_base == "https://id.example.com/base"


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch, CORS_ORIGINS="https://a.example, https://b.example,", TRUSTED_PROXIES="::1"
    )
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.trusted_proxies == ("::1",)


@pytest.mark.parametrize("name", ["GRAPHIQL", "INTROSPECTION"])
def test_production_may_be_told_to_show_itself(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settings = loaded(monkeypatch, **PRODUCTION, **{name: "true"})
    assert settings.serve_graphiql == (name == "GRAPHIQL")
    assert settings.allow_introspection == (name == "INTROSPECTION")


def test_no_secret_is_in_what_the_settings_print(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        DATABASE_URL="postgresql://app:canary-1@db.example/id",
        DATABASE_OWNER_URL="postgresql://owner:canary-2@db.example/id",
        REDIS_URL="redis://:canary-3@cache.example",
        OPERATOR_TOKEN="canary-4" * 4,
        KEY_ENCRYPTION_SECRET="canary-5" * 4,
        SIGNING_KEYS=forging.pem(forging.new_key()),
    )
    assert isinstance(settings.operator_token, SecretStr)
    for text in (repr(settings), str(settings)):
        assert "canary" not in text
        assert "PRIVATE KEY" not in text


def test_a_file_in_the_folder_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the environment alone: whoever can write a file there must not set the operator."""
    (tmp_path / ".env").write_text(f"OPERATOR_TOKEN={'x' * 32}\nPORT=1\n")
    monkeypatch.chdir(tmp_path)
    settings = loaded(monkeypatch)
    assert (settings.operator_token, settings.port) == (None, 8000)
