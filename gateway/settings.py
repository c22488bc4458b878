"""Settings of the gateway, on top of those of storage."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from db.settings import Environment, StorageSettings

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MIN_SECRET = 32

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
        None, description="PEM private keys, P-256; the first signs, the others still verify"
    )
    key_encryption_secret: SecretStr | None = Field(
        None, description="encrypts generated signing keys at rest, 32 characters or more"
    )
    token_ttl_seconds: int = Field(
        3600, ge=60, le=86400, description="life of an access token, in seconds"
    )
    bcrypt_cost: int = Field(12, ge=10, le=14, description="bcrypt cost of client secrets")
    cors_origins: Names = Field(
        (), description="origins, comma separated, whose pages may call the gateway"
    )
    trusted_proxies: Names = Field(
        (), description="addresses whose X-Forwarded-For is believed, comma separated"
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
        value = value.rstrip("/")
        parts = urlsplit(value)
        if value and (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise ValueError("expected an http(s) URL without query or fragment")
        return value

    @field_validator("operator_token", "key_encryption_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _MIN_SECRET:
            raise ValueError(f"expected at least {_MIN_SECRET} characters")
        return value

    def conflicts(self) -> list[str]:
        problems = super().conflicts()
        if not self.in_memory and self.signing_keys is None and self.key_encryption_secret is None:
            problems.append(
                "DATABASE_URL needs SIGNING_KEYS, or KEY_ENCRYPTION_SECRET to make them"
            )
        if self.environment is Environment.PRODUCTION:
            if self.operator_token is None:
                problems.append("ENVIRONMENT=production needs OPERATOR_TOKEN")
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
