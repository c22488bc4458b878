"""compose.yaml and the Dockerfile, held against the settings, ports, probes and commands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from db.settings import StorageSettings, UnsafeSettings
from gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("migrate", "gateway", "worker")

GIVEN = {
    "OPERATOR_TOKEN": "the-operator-of-the-compose-file",
    "KEY_ENCRYPTION_SECRET": "what-opens-the-keys-of-the-compose-file",
    "POSTGRES_PASSWORD": "superuser-password",
    "OWNER_PASSWORD": "owner-password",
    "APP_PASSWORD": "app-password",
}


def image_environment() -> dict[str, str]:
    lines = re.search(r"^ENV (.+?)(?<!\\)$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert lines
    return dict(pair.split("=", 1) for pair in lines[1].replace("\\\n", " ").split())


def interpolated(value: str) -> str:
    def one(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        return GIVEN[name] if name in GIVEN else (default or "").removeprefix(":-")

    return re.sub(r"\$\{(\w+)(:[?-][^}]*)?\}", one, value)


def environment_of(service: str) -> dict[str, str]:
    return {name: interpolated(str(v)) for name, v in SERVICES[service]["environment"].items()}


def settings_of(
    service: str, kind: type[StorageSettings], monkeypatch: pytest.MonkeyPatch
) -> StorageSettings:
    for name, value in {**image_environment(), **environment_of(service)}.items():
        monkeypatch.setenv(name, value)
    return kind.load()


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {name.upper() for name in GatewaySettings.model_fields}

    for service in OURS:
        assert set(environment_of(service)) <= known, service


def test_the_gateway_accepts_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("gateway", GatewaySettings, monkeypatch)

    assert isinstance(settings, GatewaySettings)
    assert not settings.migrate_at_start
    assert not settings.serve_graphiql


@pytest.mark.parametrize("service", ["migrate", "worker"])
def test_the_others_accept_what_they_are_given(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(service, StorageSettings, monkeypatch)

    assert not settings.in_memory
    assert settings.database_url != settings.owner_url
    assert settings.redis_url == "redis://redis:6379/0"


@pytest.mark.parametrize("missing", ["OPERATOR_TOKEN", "KEY_ENCRYPTION_SECRET"])
def test_a_gateway_without_its_secrets_would_not_start(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**image_environment(), **environment_of("gateway")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)

    with pytest.raises(UnsafeSettings, match=missing):
        GatewaySettings.load()


def test_secrets_are_demanded_and_never_defaulted() -> None:
    text = (ROOT / "compose.yaml").read_text()

    for name in GIVEN:
        uses = re.findall(rf"\$\{{{name}(.*?)\}}", text)
        assert uses, name
        assert all(use.startswith(":?") for use in uses), name


def test_ports_and_addresses_agree() -> None:
    port = image_environment()["PORT"]

    assert image_environment()["HOST"] == "0.0.0.0"
    assert f"EXPOSE {port}" in DOCKERFILE
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/health/ready" in " ".join(SERVICES["gateway"]["healthcheck"]["test"])


def test_nothing_but_the_gateway_is_published() -> None:
    assert [name for name, each in SERVICES.items() if "ports" in each] == ["gateway"]


def test_every_command_names_a_module_that_can_be_run() -> None:
    for service in OURS:
        python, flag, module, *_ = SERVICES[service]["command"]
        assert (python, flag) == ("python", "-m")
        assert importlib.util.find_spec(f"{module}.__main__"), module
        assert f"COPY {module} {module}" in DOCKERFILE


def test_serving_waits_for_migrations_and_these_for_the_database() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for service in ("gateway", "worker"):
        assert SERVICES[service]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_everything_that_stays_up_says_whether_it_is_well() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name


def test_probes_ask_for_paths_that_the_gateway_serves() -> None:
    health = (ROOT / "gateway" / "health.py").read_text()
    asked = set(re.findall(r"/health/\w+", DOCKERFILE + (ROOT / "compose.yaml").read_text()))

    assert asked == {"/health/live", "/health/ready"}
    for path in asked:
        assert f'"{path}"' in health


def test_the_cache_evicts_nothing_and_keeps_nothing() -> None:
    command = SERVICES["redis"]["command"]

    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--save") + 1] == ""
    assert command[command.index("--appendonly") + 1] == "no"


@pytest.mark.parametrize(
    ("url", "password"),
    [("DATABASE_URL", "APP_PASSWORD"), ("DATABASE_OWNER_URL", "OWNER_PASSWORD")],
)
def test_both_roles_are_made_by_the_script_and_neither_is_the_images_superuser(
    url: str, password: str
) -> None:
    """What the script does is seen in `test_compose_roles.py`."""
    environment = SERVICES["postgres"]["environment"]
    made = COMPOSE["configs"]["roles"]["content"]
    found = re.search(r"//(\w+):([^@]+)@(\w+):5432/(\w+)$", environment_of("worker")[url])

    assert found
    role, given, host, database = found.groups()
    assert (given, host) == (GIVEN[password], "postgres")
    assert database == environment["POSTGRES_DB"]
    assert role != environment["POSTGRES_USER"]
    assert f"CREATE ROLE {role} LOGIN PASSWORD" in made
    assert "SUPERUSER" not in made.upper()
    assert f" {password}\n" in made
    assert password in environment


def test_the_image_runs_the_script_as_sql_and_no_password_is_an_argument() -> None:
    [script] = SERVICES["postgres"]["configs"]
    made = COMPOSE["configs"][script["source"]]["content"]

    assert re.fullmatch(r"/docker-entrypoint-initdb\.d/[\w-]+\.sql", script["target"])
    assert "${" not in made
    assert not re.search(r"PASSWORD '", made)


def test_what_must_be_set_is_named_at_the_top() -> None:
    text = (ROOT / "compose.yaml").read_text()
    demanded = set(re.findall(r"\$\{(\w+):\?", text))

    assert demanded == set(GIVEN)
    assert set(re.findall(r"^#   (\w+) ", text, re.MULTILINE)) == demanded


def test_the_owner_is_known_to_what_makes_tables_and_not_to_what_answers_requests() -> None:
    knowing = {name for name in OURS if "DATABASE_OWNER_URL" in environment_of(name)}

    assert knowing == {"migrate", "worker"}
    assert GIVEN["OWNER_PASSWORD"] not in str(environment_of("gateway"))


def test_all_of_ours_reach_the_same_stores() -> None:
    for name in ("ENVIRONMENT", "DATABASE_URL", "REDIS_URL", "AUTO_MIGRATE"):
        assert len({environment_of(service)[name] for service in OURS}) == 1, name


def test_the_superusers_password_is_given_to_the_database_alone() -> None:
    for service in OURS:
        assert GIVEN["POSTGRES_PASSWORD"] not in str(environment_of(service))


def test_what_a_removed_tenant_had_outlives_the_worker_that_exported_it() -> None:
    place = environment_of("worker")["EXPORT_DIRECTORY"]
    [mounted] = SERVICES["worker"]["volumes"]

    assert mounted == f"exports:{place}"
    assert "exports" in COMPOSE["volumes"]
    # A new volume belongs to whoever the directory of the image belongs to.
    assert re.search(rf"install --directory --owner agentidp --mode 700 {place}$", DOCKERFILE, re.M)
    assert "exports/" in (ROOT / ".gitignore").read_text().split()
    assert (ROOT / ".dockerignore").read_text().split()[0] == "*"


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert re.search(r"^USER agentidp$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.index("USER agentidp") < DOCKERFILE.index('CMD ["python"')


def test_the_image_installs_the_hashed_lock_and_copies_only_what_runs() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)

    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert set(copied) == {"requirements.lock", "alembic", "db", "gateway", "workers"}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{each}" for each in copied} <= set(ignored)
