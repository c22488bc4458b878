"""A hash of an older cost, or one without a tag, is made anew when its secret is shown.

That is the only time that the secret is there to be hashed. It happens behind the answer, once for
each credential at a time, and a login never fails by it: what was not stored is tried again when
the secret is next compared. A credential that was revoked or given another hash meanwhile is left
as it is.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from uuid import UUID

import structlog

from db.contract import Storage
from db.errors import Unavailable
from db.log import log_fault
from db.records import Credential, Tenant
from gateway.auth.secrets import HashedSecret, SecretHasher, tag_of
from gateway.auth.verification import Verifications

_log = structlog.get_logger(__name__)


class Upgrades:
    def __init__(
        self, storage: Storage, hasher: SecretHasher, verifications: Verifications
    ) -> None:
        self._storage = storage
        self._hasher = hasher
        self._verifications = verifications
        self._running: dict[UUID, asyncio.Task[None]] = {}

    def start(self, tenant: Tenant, credential: Credential, secret: str) -> None:
        """For a secret that matches; returns at once, whether there is something to do or not."""
        identifier = credential.credential_id
        if identifier in self._running or not self._is_due(credential):
            return
        task = asyncio.create_task(self._run(tenant, credential, secret), context=Context())
        self._running[identifier] = task
        task.add_done_callback(lambda _: self._running.pop(identifier))

    async def settle(self, seconds: float) -> None:
        """Returns when none of those that were started is on its way. What takes longer is given
        up: the next login will do it."""
        running = list(self._running.values())
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _is_due(self, credential: Credential) -> bool:
        return credential.secret_tag is None or self._hasher.is_outdated(credential.secret_hash)

    async def _run(self, tenant: Tenant, credential: Credential, secret: str) -> None:
        try:
            await self._upgrade(tenant, credential, secret)
        except Unavailable as error:
            _log.warning("a hash was not brought up to date", reason=error.message)
        except Exception as error:
            log_fault(error)

    async def _upgrade(self, tenant: Tenant, credential: Credential, secret: str) -> None:
        identifier, was = credential.credential_id, credential.secret_hash
        if self._hasher.is_outdated(was):
            hashed = await self._hasher.hash(secret)
        else:
            hashed = HashedSecret(was, tag_of(secret))
        async with self._storage.unit(tenant.prefix) as unit:
            stored = await unit.credentials.rehash(identifier, was, hashed.hash, hashed.tag)
        if stored:
            # It is known to match: the next login need not find that out.
            self._verifications.remember(
                self._verifications.key(tenant.slug, identifier, hashed.hash, secret)
            )
