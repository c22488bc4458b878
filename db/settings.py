"""Settings of storage: what the gateway, the workers and `python -m db` all read.

From the environment alone, checked as a whole: every problem is listed, then nothing starts.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.errors import Misconfigured

MEMORY = "memory://"
_DATABASE_SCHEMES = ("postgresql://", "postgres://")
_LEAST_CONNECTIONS = 2
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class UnsafeSettings(Misconfigured):
    """The settings cannot be used; `problems` has one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the settings cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
        self.problems = problems


class StorageSettings(BaseSettings):
    """Field descriptions are the README's settings table."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    environment: Environment = Field(
        Environment.DEVELOPMENT,
        description="`production` refuses what is unsafe, the owner's role in DATABASE_URL too",
    )
    database_url: str = Field(MEMORY, description="`memory://` or `postgresql://…`", repr=False)
    database_owner_url: str | None = Field(
        None,
        description="role that owns the tables and makes them; as DATABASE_URL if unset",
        repr=False,
    )
    redis_url: str = Field(
        MEMORY, description="`memory://`, `redis://…`, `rediss://…` or `unix://…`", repr=False
    )
    auto_migrate: bool | None = Field(
        None, description="bring the schema to head at start; true unless in production"
    )
    audit_retention_days: int = Field(
        90, ge=1, le=36500, description="how long audit events can be read, in days"
    )
    export_directory: Path = Field(
        Path("exports"),
        description="where a removed tenant's data is written before it is dropped",
    )
    db_pool_size: int = Field(10, ge=1, le=1000, description="connections kept open per process")
    db_max_overflow: int = Field(5, ge=0, le=1000, description="further connections under load")
    db_pool_recycle_seconds: int = Field(
        900, ge=1, description="a connection is replaced after this many seconds"
    )
    pgbouncer: bool = Field(
        False, description="true behind PgBouncer in transaction mode: no prepared statements"
    )

    @field_validator("database_owner_url", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        # As compose files and charts pass what nobody has set.
        return None if value == "" else value

    @field_validator("database_url", "database_owner_url")
    @classmethod
    def _database_scheme(cls, value: str | None) -> str | None:
        if value is None or value == MEMORY:
            return value
        if not value.startswith(_DATABASE_SCHEMES):
            raise ValueError("expected memory:// or postgresql://…")
        _destination(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if value != MEMORY and not value.startswith(_REDIS_SCHEMES):
            raise ValueError("expected memory://, redis://…, rediss://… or unix://…")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if problems := self.conflicts():
            raise ValueError("\n".join(problems))
        return self

    def conflicts(self) -> list[str]:
        """What is wrong between settings that are each right by themselves, a line for each."""
        problems = []
        if self.in_memory and self.redis_url != MEMORY:
            problems.append("DATABASE_URL=memory:// cannot stand beside a real REDIS_URL")
        if self.in_memory and self.database_owner_url not in (None, MEMORY):
            problems.append("DATABASE_OWNER_URL has no meaning with DATABASE_URL=memory://")
        if self.in_memory and self.environment is Environment.PRODUCTION:
            problems.append("ENVIRONMENT=production needs a DATABASE_URL: memory:// forgets")
        if self.db_pool_size + self.db_max_overflow < _LEAST_CONNECTIONS:
            problems.append(
                f"DB_POOL_SIZE and DB_MAX_OVERFLOW need to be {_LEAST_CONNECTIONS} or more"
                " together: a tenant is admitted with two connections at once"
            )
        if not self.in_memory and self.database_owner_url is not None:
            problems += self._owner_conflicts(self.database_owner_url)
        return problems

    def _owner_conflicts(self, owner_url: str) -> list[str]:
        """Tables made where nobody looks for them: a start that seems to go well."""
        if owner_url == MEMORY:
            return ["DATABASE_OWNER_URL=memory:// cannot stand beside a real DATABASE_URL"]
        servers, database = _destination(self.database_url)
        owner_servers, owner_database = _destination(owner_url)
        # Tables are often made around the pooler, which is another host or port.
        if owner_database == database and (self.pgbouncer or owner_servers == servers):
            return []
        return [
            "DATABASE_OWNER_URL names another host, port or database than DATABASE_URL: only the"
            " role may differ, and with PGBOUNCER=true the host and port"
        ]

    @property
    def in_memory(self) -> bool:
        return self.database_url == MEMORY

    @property
    def owner_url(self) -> str:
        return self.database_owner_url or self.database_url

    @property
    def migrate_at_start(self) -> bool:
        if self.auto_migrate is None:
            return self.environment is not Environment.PRODUCTION
        return self.auto_migrate

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """The settings of the environment. Raises UnsafeSettings with every problem at once."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            problems = _problems(error)
            wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
        # While one setting is wrong by itself, conflicts are not looked for: once more without.
        rest = {name: cls.model_fields[name].get_default() for name in wrong}
        if rest:
            try:
                cls(**{**overrides, **rest})
            except ValidationError as error:
                problems += [
                    problem
                    for problem in _problems(error)
                    if not any(name.upper() in problem for name in wrong)
                ]
        raise UnsafeSettings(problems)


def _destination(url: str) -> tuple[frozenset[tuple[str, str]], str]:
    """The servers, as host and port, and the database that the driver will be told of by `url`.
    Raises ValueError."""
    # A process that keeps everything in memory never loads it.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url).set(drivername="postgresql+asyncpg")
        _, told = parsed.get_dialect()().create_connect_args(parsed)
    except (ArgumentError, ValueError):
        # Without the reason, which can quote a password.
        raise ValueError("cannot be read as the URL of a database") from None
    hosts = _listed(told.get("host")) or [os.environ.get("PGHOST", "")]
    ports = _listed(told.get("port")) or [os.environ.get("PGPORT", "5432")]
    if len(ports) == 1:
        ports = ports * len(hosts)
    servers = frozenset(zip(map(str.lower, hosts), ports, strict=False))
    database = told.get("database") or os.environ.get("PGDATABASE") or told.get("user")
    return servers, str(database or "")


def _listed(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return [str(value)] if value else []


def _problems(error: ValidationError) -> list[str]:
    return [line for each in error.errors() for line in _problem(each).splitlines()]


def _problem(error: Any) -> str:
    name = "_".join(str(part) for part in error["loc"]).upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
