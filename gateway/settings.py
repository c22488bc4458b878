"""Settings of the gateway, on top of those of storage."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from db.settings import MEMORY, Environment, StorageSettings

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MIN_SECRET = 32
_MIN_DIFFERENT = 8
_LAST_PORT = 65535

# Source: RFC 6750 §2.1. Whatever else it is made of could not be sent as a bearer token.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_VISIBLE = re.compile(r"[!-~]+")
# Source: RFC 3986 §3.3 for the path. What is not in here is nothing that a client could send back,
# and would be passed on in tokens, headers and documents.
_PATH = r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?"
_ORIGIN = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
_PUBLIC_URL = re.compile(rf"(?P<origin>https?://[^/]+){_PATH}")

Names = Annotated[tuple[str, ...], NoDecode]


class GatewaySettings(StorageSettings):
    """Field descriptions are the README's settings table."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    public_url: str = Field(
        "", description="how clients reach the gateway; tokens carry it as their issuer"
    )
    operator_token: SecretStr | None = Field(
        None, description="the operator's bearer token, 32 characters or more; unset: no operator"
    )
    signing_keys: SecretStr | None = Field(
        None,
        description=(
            "PEM private keys, P-256, RSA of 2048 to 4096 bits or Ed25519; the first signs, the "
            "others still verify"
        ),
    )
    key_encryption_secret: SecretStr | None = Field(
        None, description="encrypts generated signing keys at rest, 32 characters or more"
    )
    token_ttl_seconds: int = Field(
        3600, ge=60, le=86400, description="life of an access token, in seconds"
    )
    tenant_removal_grace_hours: int = Field(
        168, ge=0, le=87600, description="how long a removal can be called off, in hours"
    )
    bcrypt_cost: int = Field(12, ge=10, le=14, description="bcrypt cost of client secrets")
    rate_limit_per_minute: int = Field(
        0, ge=0, le=100_000, description="token requests of one client in a minute; 0: no limit"
    )
    cors_origins: Names = Field(
        (), description="origins, comma separated, whose pages may call the gateway"
    )
    trusted_proxies: Names = Field(
        (), description="addresses or networks whose X-Forwarded-For is believed, comma separated"
    )
    graphiql: bool | None = Field(
        None, description="serve the GraphiQL page; true unless in production"
    )
    introspection: bool | None = Field(
        None, description="answer GraphQL introspection; true unless in production"
    )

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("public_url")
    @classmethod
    def _issuer(cls, value: str) -> str:
        found = _PUBLIC_URL.fullmatch(value)
        if value and (found is None or not _is_origin(found["origin"])):
            raise ValueError("expected an http(s) URL in ASCII without user, query or fragment")
        return value.rstrip("/")

    @field_validator("operator_token")
    @classmethod
    def _bearer_token(cls, value: SecretStr | None) -> SecretStr | None:
        _require_secret(value, _BEARER, "letters, digits and -._~+/ alone, with = at the end")
        return value

    @field_validator("key_encryption_secret")
    @classmethod
    def _visible_secret(cls, value: SecretStr | None) -> SecretStr | None:
        _require_secret(value, _VISIBLE, "visible ASCII characters alone")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [n for n, each in enumerate(value, 1) if each != "*" and not _is_origin(each)]
        if wrong:
            raise ValueError(f"expected * or origins as https://app.example.com; {_which(wrong)}")
        # As a browser writes them.
        return tuple(each.lower() for each in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [n for n, each in enumerate(value, 1) if each != "*" and not _is_network(each)]
        if wrong:
            raise ValueError(f"expected IP addresses or networks as 10.0.0.0/8; {_which(wrong)}")
        return value

    def conflicts(self) -> list[str]:
        problems = super().conflicts()
        if not self.in_memory and self.signing_keys is None and self.key_encryption_secret is None:
            problems.append(
                "DATABASE_URL needs SIGNING_KEYS, or KEY_ENCRYPTION_SECRET to make them"
            )
        if self.operator_token and self.operator_token == self.key_encryption_secret:
            problems.append("OPERATOR_TOKEN and KEY_ENCRYPTION_SECRET must be different")
        if self.environment is Environment.PRODUCTION:
            if any(map(_is_everybody, self.trusted_proxies)):
                problems.append(
                    "ENVIRONMENT=production needs TRUSTED_PROXIES that are not everybody"
                )
            if self.operator_token is None:
                problems.append("ENVIRONMENT=production needs OPERATOR_TOKEN")
            if not self.in_memory and self.redis_url == MEMORY and not self.database_owner_url:
                problems.append(
                    "ENVIRONMENT=production needs DATABASE_OWNER_URL with REDIS_URL=memory://: the"
                    " gateway is its own worker then, and makes the tables"
                )
            public = urlsplit(self.public_url)
            if public.scheme != "https" and public.hostname not in _LOOPBACK:
                problems.append("ENVIRONMENT=production needs a PUBLIC_URL with https")
        return problems

    @property
    def issuer_base(self) -> str:
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def serve_graphiql(self) -> bool:
        return self._unless_production(self.graphiql)

    @property
    def allow_introspection(self) -> bool:
        return self._unless_production(self.introspection)

    def _unless_production(self, value: bool | None) -> bool:
        return self.environment is not Environment.PRODUCTION if value is None else value


def _require_secret(value: SecretStr | None, allowed: re.Pattern[str], named: str) -> None:
    if value is None:
        return
    text = value.get_secret_value()
    missing = []
    if len(text) < _MIN_SECRET:
        missing.append(f"at least {_MIN_SECRET} characters")
    if len(set(text)) < _MIN_DIFFERENT:
        missing.append(f"at least {_MIN_DIFFERENT} different ones")
    if not allowed.fullmatch(text):
        missing.append(named)
    if missing:
        raise ValueError("expected " + ", ".join(missing))


def _is_origin(text: str) -> bool:
    """scheme://host[:port] and nothing else."""
    found = _ORIGIN.fullmatch(text)
    if found is None or int(found["port"] or 0) > _LAST_PORT:
        return False
    try:
        return found["v6"] is None or bool(IPv6Address(found["v6"]))
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        return bool(ip_network(text))
    except ValueError:
        return False


def _is_everybody(proxy: str) -> bool:
    return proxy == "*" or ip_network(proxy).prefixlen == 0


def _which(wrong: list[int]) -> str:
    """By their places: an address can have a password in it."""
    return "not so: number " + ", ".join(map(str, wrong))
