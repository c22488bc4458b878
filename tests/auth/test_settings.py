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
    "DATABASE_OWNER_URL": "postgresql://owner@db.example/id",
    "REDIS_URL": "rediss://cache.example",
    "OPERATOR_TOKEN": "the-operator-of-production-alone",
    "KEY_ENCRYPTION_SECRET": "what*opens*the*keys*of*#\\%{}!:;?[]",
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


def test_an_owner_that_is_passed_on_empty_is_one_that_nobody_has_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert loaded(monkeypatch, DATABASE_OWNER_URL="").database_owner_url is None


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


def test_who_makes_the_tables_is_the_worker_s_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {name: value for name, value in PRODUCTION.items() if name != "DATABASE_OWNER_URL"}
    assert loaded(monkeypatch, **alone).database_owner_url is None


def test_a_gateway_that_is_its_own_worker_has_to_know_who_makes_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {**PRODUCTION, "REDIS_URL": "memory://"}
    assert loaded(monkeypatch, **given).database_owner_url == PRODUCTION["DATABASE_OWNER_URL"]
    monkeypatch.delenv("DATABASE_OWNER_URL")
    del given["DATABASE_OWNER_URL"]
    assert problems(monkeypatch, **given) == [
        "ENVIRONMENT=production needs DATABASE_OWNER_URL with REDIS_URL=memory://: the gateway is"
        " its own worker then, and makes the tables"
    ]


def test_production_does_not_start_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**PRODUCTION, "DATABASE_URL": "memory://", "REDIS_URL": "memory://"}
    del environment["DATABASE_OWNER_URL"]
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
    assert loaded(monkeypatch, **{name: "hunter2-" * 4})


@pytest.mark.parametrize("name", ["OPERATOR_TOKEN", "KEY_ENCRYPTION_SECRET"])
def test_a_secret_of_few_characters_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for few in ("x" * 64, "ab" * 32, "abcdefg" * 8):
        [problem] = problems(monkeypatch, **{name: few})
        assert problem == f"{name}: expected at least 8 different ones"
    assert loaded(monkeypatch, **{name: "abcdefgh" * 4})


def test_all_that_is_wrong_with_a_secret_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems(monkeypatch, KEY_ENCRYPTION_SECRET="ä b")
    assert problem == (
        "KEY_ENCRYPTION_SECRET: expected at least 32 characters, at least 8 different ones,"
        " visible ASCII characters alone"
    )


@pytest.mark.parametrize(
    "wrong", [" ", "\t", "\n", "\r\n", "\x7f", "é", "\N{NO-BREAK SPACE}", "０"]
)
@pytest.mark.parametrize("name", ["OPERATOR_TOKEN", "KEY_ENCRYPTION_SECRET"])
def test_a_secret_that_no_client_could_send_or_nobody_could_see_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: str
) -> None:
    """A line's end that came with a file, above all."""
    secret = "abcdefgh" * 4
    for text in (wrong + secret, secret + wrong, secret[:16] + wrong + secret[16:]):
        [problem] = problems(monkeypatch, **{name: text})
        assert problem.startswith(f"{name}: expected ")
        assert "alone" in problem


@pytest.mark.parametrize("wrong", ['"', "'", ",", ":", "=x", "@", "\\", "(", "!"])
def test_an_operator_token_that_is_no_bearer_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    [problem] = problems(monkeypatch, OPERATOR_TOKEN="abcdefgh" * 4 + wrong)
    assert problem == (
        "OPERATOR_TOKEN: expected letters, digits and -._~+/ alone, with = at the end"
    )
    assert loaded(monkeypatch, OPERATOR_TOKEN="aZ0-._~+/" * 4 + "==")


def test_a_pool_in_which_no_tenant_could_be_admitted_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [problem] = problems(monkeypatch, DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0")
    assert problem.startswith("DB_POOL_SIZE and DB_MAX_OVERFLOW need to be 2 or more together")
    assert loaded(monkeypatch, DB_POOL_SIZE="1", DB_MAX_OVERFLOW="1")


def test_one_secret_for_two_purposes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = "abcdefgh" * 4
    assert problems(monkeypatch, OPERATOR_TOKEN=both, KEY_ENCRYPTION_SECRET=both) == [
        "OPERATOR_TOKEN and KEY_ENCRYPTION_SECRET must be different"
    ]


@pytest.mark.parametrize(
    "url", ["ftp://id.example.com", "id.example.com", "https://", "https://a.example/?q",
            "https://a.example/#f", "http://[", "https://a.example?", "https://a.example/#",
            "https://a.example/a b", " https://a.example", "https://a.example\n",
            "https://a.exa\tmple", "https://a.example/\x1f", "https://a.example/\x7f",
            "https://user@a.example", "https://user:pw@a.example", "https://@a.example",
            "https://bücher.example", "https://a。example", "https://a.example/ü",
            'https://a.example/"', "https://a.example\\b", "https://a.example:port",
            "https://a.example:99999", "https://a.example:", "https://:443", "https://[::1",
            "https://[1::2::3]", "https://[::1]x", "https:/a.example", "//a.example"]
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


@pytest.mark.parametrize(
    "origin", ["https://a.example/", "https://a.example/app", "a.example", "ftp://a.example",
               "https://*.a.example", "https://a.example?", "https://user:pw@a.example", "null",
               "https://a.example:99999", "https://a. example", "https://bücher.example", "**"]
)  # fmt: skip
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    assert problems(monkeypatch, CORS_ORIGINS=f"https://b.example,{origin},*") == [
        "CORS_ORIGINS: expected * or origins as https://app.example.com; not so: number 2"
    ]


def test_origins_are_those_that_browsers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "*,https://App.Example,http://localhost:3000,http://[::1]:3000"
    assert loaded(monkeypatch, CORS_ORIGINS=given).cors_origins == (
        *("*", "https://app.example", "http://localhost:3000", "http://[::1]:3000"),
    )


@pytest.mark.parametrize(
    "proxy", ["proxy.example", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "::g", "10.0.0.1:80",
              "unix:", "0x7f000001", "localhost"]
)  # fmt: skip
def test_a_proxy_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """The server would take it for a name that never matches."""
    assert problems(monkeypatch, TRUSTED_PROXIES=f"{proxy},10.0.0.1,{proxy}") == [
        "TRUSTED_PROXIES: expected IP addresses or networks as 10.0.0.0/8; not so: number 1, 3"
    ]


def test_addresses_and_networks_may_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8")
    settings = loaded(monkeypatch, **PRODUCTION, TRUSTED_PROXIES=",".join(given))
    assert settings.trusted_proxies == given


@pytest.mark.parametrize("everybody", ["*", "0.0.0.0/0", "::/0", "10.0.0.1,*"])
def test_production_does_not_believe_everybody(
    monkeypatch: pytest.MonkeyPatch, everybody: str
) -> None:
    assert loaded(monkeypatch, TRUSTED_PROXIES=everybody)
    assert problems(monkeypatch, **PRODUCTION, TRUSTED_PROXIES=everybody) == [
        "ENVIRONMENT=production needs TRUSTED_PROXIES that are not everybody"
    ]


ELSEWHERE = (
    "DATABASE_OWNER_URL names another host, port or database than DATABASE_URL: only the role may"
    " differ, and with PGBOUNCER=true the host and port"
)


def test_the_owner_is_not_in_memory_while_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**PRODUCTION, "DATABASE_OWNER_URL": "memory://"}
    assert problems(monkeypatch, **given) == [
        "DATABASE_OWNER_URL=memory:// cannot stand beside a real DATABASE_URL"
    ]


@pytest.mark.parametrize(
    ("url", "owner_url"),
    [
        ("postgresql://app@db/id", "postgresql://owner@other/id"),
        ("postgresql://app@db/id", "postgresql://owner@db:5433/id"),
        ("postgresql://app@db/id", "postgresql://owner@db/other"),
        ("postgresql://app@db/", "postgresql://owner@db/"),
        ("postgresql://app@db/id", "postgresql://owner@/id"),
        ("postgresql://app@/id?host=/run/a", "postgresql://owner@/id?host=/run/b"),
        ("postgresql://app@db/id", "postgresql://owner@db/id?host=other"),
        ("postgresql://app@db/id", "postgresql://owner@db/id?port=6000"),
        ("postgresql://app@db/id", "postgresql://owner@db/id?database=other"),
        ("postgresql://app@/id?host=a:1&host=b:2", "postgresql://owner@/id?host=a:1&host=c:2"),
        ("postgresql://app@/id?host=a:1&host=b:2", "postgresql://owner@/id?host=a:1"),
    ],
)
def test_an_owner_of_tables_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, owner_url: str
) -> None:
    given = {**PRODUCTION, "DATABASE_URL": url, "DATABASE_OWNER_URL": owner_url}
    assert problems(monkeypatch, **given) == [ELSEWHERE]


@pytest.mark.parametrize(
    ("url", "owner_url"),
    [
        ("postgresql://app:x@db/id", "postgresql://owner:y@db/id"),
        ("postgresql://app@db/id", "postgres://owner@DB:5432/id?sslmode=require"),
        ("postgresql://app@db/id", "postgresql://owner@/id?host=db&port=5432"),
        ("postgresql://app@/id?host=/run/a", "postgresql://owner@/id?host=/run/a&port=5432"),
        ("postgresql://app@/id?host=a:1&host=b:2", "postgresql://owner@/id?host=b:2&host=a:1"),
        ("postgresql://app@db/owner", "postgresql://owner@db"),
        ("postgresql://app@[::1]:5432/id", "postgresql://owner@[::1]/id"),
    ],
)
def test_the_same_place_may_be_written_in_two_ways(
    monkeypatch: pytest.MonkeyPatch, url: str, owner_url: str
) -> None:
    given = {**PRODUCTION, "DATABASE_URL": url, "DATABASE_OWNER_URL": owner_url}
    assert loaded(monkeypatch, **given).owner_url == owner_url


def test_the_owner_may_go_around_the_pooler_to_the_same_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {**PRODUCTION, "PGBOUNCER": "true"}
    around = "postgresql://owner@db.example:5433/id"
    given["DATABASE_OWNER_URL"] = around
    assert loaded(monkeypatch, **given).owner_url == around
    given["DATABASE_OWNER_URL"] = "postgresql://owner@db.example:5433/other"
    assert problems(monkeypatch, **given) == [ELSEWHERE]


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_OWNER_URL"])
@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@host:port/d", "postgresql://u:hunter2@a:1,b:2/d",
            "postgresql://u:hunter2@/d?host=a,b&port=1,2,3"]
)  # fmt: skip
def test_what_cannot_be_read_as_a_url_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    assert problems(monkeypatch, **{**PRODUCTION, name: url}) == [
        f"{name}: cannot be read as the URL of a database"
    ]


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_nothing_stands_behind_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It would be taken for a host."""
    [problem] = problems(monkeypatch, **{name: "memory://host"})
    assert problem.startswith(f"{name}: expected memory://")


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
        OPERATOR_TOKEN="canary-4-" * 4 + "operator",
        KEY_ENCRYPTION_SECRET="canary-5-" * 4 + "opener",
        SIGNING_KEYS=forging.pem(forging.new_key()),
    )
    assert isinstance(settings.operator_token, SecretStr)
    for text in (repr(settings), str(settings)):
        assert "canary" not in text
        assert "PRIVATE KEY" not in text


def test_a_file_in_the_folder_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the environment alone: whoever can write a file there must not set the operator."""
    (tmp_path / ".env").write_text(f"OPERATOR_TOKEN={'abcdefgh' * 4}\nPORT=1\n")
    monkeypatch.chdir(tmp_path)
    settings = loaded(monkeypatch)
    assert (settings.operator_token, settings.port) == (None, 8000)
