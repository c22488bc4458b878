"""The one translator of the database's own faults into the errors of `db.errors`.

Nothing of the driver's leaves this package, not even as the cause of an error: PostgreSQL puts the
row that it refuses, secret hashes and addresses included, into the detail of its complaint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    PostgresError,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.errors import (
    AgentIdPError,
    EmailTaken,
    IdTaken,
    InvalidTransition,
    Misconfigured,
    NotFound,
    SlugTaken,
    TenantNotProvisioned,
    Unavailable,
)
from db.namespace import TenantPrefix


class Outage(Unavailable):
    """What was asked of the server for another tenant would have failed with it."""


class Silence(Outage):
    """No answer in time; asking again would take as long."""


class Busy(Unavailable):
    """Only what was asked had to wait for too long: somebody holds it."""


# Constraints by their names without the prefix, as `db.tables` has them.
_REFUSALS: Mapping[str, Callable[[], AgentIdPError]] = {
    "agents_pkey": lambda: IdTaken("the agent_id is there already"),
    "idx_agents_email": lambda: EmailTaken("another agent has this address", ("email",)),
    "credentials_pkey": lambda: IdTaken("the credential_id is there already"),
    "credentials_client_id_fkey": lambda: NotFound("there is no such agent", ("clientId",)),
    "idx_signing_keys_signing": lambda: InvalidTransition("another key signs", ("kid",)),
    "tenants_pkey": lambda: SlugTaken("the slug is in use, or was", ("slug",)),
}

# By SQLSTATE or its class. Source: PostgreSQL documentation, appendix A.
_OUTAGES: Mapping[str, str] = {
    "08": "the connection to the database failed",
    "53": "the database is out of connections, memory or disk",
    "57P": "the database is shutting down, starting, or ended the connection",
    "58": "the database met an error of its own system",
    "25P03": "the database ended a transaction that took too long",
    "25P04": "the database ended a transaction that took too long",
    "28": "the database does not let this role in",
    "3D000": "there is no such database",
    "40": "the database put another change first",
    "25006": "the database takes no changes at the moment",
}
_WAITS: Mapping[str, str] = {
    "57014": "the database gave up on a statement that took too long",
    "55P03": "a lock in the database was not to be had in time",
}

_UNDEFINED_TABLE = "42P01"
_CHECK_VIOLATION = "23514"
_PREPARED_STATEMENTS = ("26000", "42P05")
# Citus reports the constraint of a shard: its name with the shard's number behind it.
_SHARD = re.compile(r"_[0-9]+\Z")


@contextmanager
def translated(tenant: TenantPrefix | None) -> Iterator[None]:
    """Around everything that talks to the database on behalf of `tenant`, or of the registry."""
    try:
        yield
    except DBAPIError as error:
        fault = _driver_exception(error)
        raise _translation(fault, tenant, lost=error.connection_invalidated) from None
    except (PostgresError, InterfaceError, InternalClientError) as error:
        # Of whoever asked the driver itself, and will know whether the connection is still there.
        raise _translation(error, tenant, lost=False) from None
    except PoolTimeout:
        raise Silence("every connection to the database is in use") from None
    except TimeoutError:
        raise Silence("the database did not answer in time") from None
    except OSError as error:
        # Of asyncpg's connecting, which SQLAlchemy passes on as it is.
        raise Outage(f"the database cannot be reached: {type(error).__name__}") from None


def _translation(fault: BaseException, tenant: TenantPrefix | None, *, lost: bool) -> AgentIdPError:
    state = _text(fault, "sqlstate")
    constraint = _text(fault, "constraint_name")
    if refusal := _refusal(constraint, tenant):
        return refusal
    if state == _UNDEFINED_TABLE:
        if tenant is None:
            return Misconfigured("the registry has no tables: run `python -m db migrate`")
        return TenantNotProvisioned(f"the tables of the tenant {tenant} are not there")
    if state == _CHECK_VIOLATION and not constraint:
        return Unavailable("the audit log has no partition for the month of this event")
    if state in _PREPARED_STATEMENTS:
        return Misconfigured(
            "a prepared statement was lost or met twice: behind PgBouncer, set PGBOUNCER=true"
        )
    for length in (5, 3, 2):
        if state and (outage := _OUTAGES.get(state[:length])):
            return Outage(outage)
    if wait := _WAITS.get(state):
        return Busy(wait)
    if isinstance(fault, InvalidCachedStatementError):
        return Unavailable("the tables have just been changed; the statements are prepared anew")
    if lost:
        return Outage("the connection to the database was lost")
    return Misconfigured(f"the database refused a statement: {_description(fault, state)}")


def _refusal(constraint: str, tenant: TenantPrefix | None) -> AgentIdPError | None:
    named = {constraint, _SHARD.sub("", constraint)}
    for name, refused in _REFUSALS.items():
        # In a joint unit it may be the tenant's or the registry's.
        if name in named or (tenant and tenant.constraint(name) in named):
            return refused()
    return None


def _driver_exception(error: DBAPIError) -> BaseException:
    wrapped = error.orig
    return (wrapped.__cause__ if wrapped is not None else None) or wrapped or error


def _text(fault: BaseException, name: str) -> str:
    value = getattr(fault, name, None)
    return value if isinstance(value, str) else ""


def _description(fault: BaseException, state: str) -> str:
    """What an operator needs to find the reason, and no value of any row."""
    named = [_text(fault, f"{kind}_name") for kind in ("table", "column", "constraint")]
    # The messages of this class, and of this class alone, hold identifiers and nothing else.
    message = str(fault.args[0]) if state.startswith("42") and fault.args else ""
    return " ".join(filter(None, [type(fault).__name__, state, *named, message]))
