"""What a process knows of the signing keys, and how it learns what others did to them.

Others are played by the registry itself, which is where they meet.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import Engine

from db.backends import open_storage
from db.contract import Storage
from db.errors import Unavailable
from db.memory.storage import MemoryStorage
from db.records import SigningAlgorithm, SigningKey, SigningKeyStatus
from gateway.auth.keyring import RELOAD_SECONDS, SEARCH_SECONDS, KeyRing, load_keys
from gateway.auth.keys import new_key
from gateway.auth.vault import Vault
from gateway.settings import GatewaySettings
from tests.auth import forging
from tests.auth.forging import NOW
from tests.gateway import KEY_ENCRYPTION_SECRET, memory_settings, postgres_settings, running
from tests.servers.databases import Database
from tests.servers.postgres import Postgres

PUBLISHED, SIGNING = SigningKeyStatus.PUBLISHED, SigningKeyStatus.SIGNING
RETIRED = SigningKeyStatus.RETIRED


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@dataclass
class Scene:
    """A ring that read the registry at NOW, and the registry."""

    storage: Storage
    ring: KeyRing

    async def add(
        self, algorithm: SigningAlgorithm = SigningAlgorithm.ES256, secret: str = ""
    ) -> SigningKey:
        """A key that another process publishes."""
        vault = Vault(secret or KEY_ENCRYPTION_SECRET)
        row = vault.seal(new_key(algorithm), PUBLISHED, NOW)
        async with self.storage.registry_unit() as unit:
            assert await unit.signing_keys.add(row)
        return row

    async def set(self, kid: str, status: SigningKeyStatus) -> None:
        async with self.storage.registry_unit() as unit:
            row = await unit.signing_keys.get(kid)
            assert row is not None
            await unit.signing_keys.save(replace(row, status=status))


@pytest.fixture
async def scene() -> Scene:
    return await load(memory_settings(key_encryption_secret=KEY_ENCRYPTION_SECRET))


async def load(settings: GatewaySettings, storage: Storage | None = None) -> Scene:
    storage = storage or MemoryStorage()
    return Scene(storage, await load_keys(settings, storage, NOW))


class TestAge:
    async def test_a_set_is_read_again_when_it_is_old_and_not_before(self, scene: Scene) -> None:
        first = scene.ring.known.signing.kid
        added = await scene.add()
        assert (await scene.ring.current(at(RELOAD_SECONDS - 0.001))).kids == [first]
        assert (await scene.ring.current(at(RELOAD_SECONDS))).kids == [first, added.kid]

    async def test_a_key_that_came_to_sign_elsewhere_signs_here(self, scene: Scene) -> None:
        first = scene.ring.known.signing.kid
        added = await scene.add(SigningAlgorithm.EDDSA)
        await scene.set(first, PUBLISHED)
        await scene.set(added.kid, SIGNING)
        assert (await scene.ring.current(at(RELOAD_SECONDS))).signing.kid == added.kid
        await scene.set(first, RETIRED)
        assert (await scene.ring.current(at(2 * RELOAD_SECONDS))).kids == [added.kid]

    async def test_a_set_that_has_not_changed_stays_the_same_object(self, scene: Scene) -> None:
        """What was found out with it stays known."""
        known = scene.ring.known
        assert await scene.ring.current(at(RELOAD_SECONDS)) is known
        await scene.add()
        assert await scene.ring.current(at(2 * RELOAD_SECONDS)) is not known

    async def test_a_clock_that_was_set_back_does_not_keep_a_set_for_ever(
        self, scene: Scene
    ) -> None:
        added = await scene.add()
        assert added.kid not in (await scene.ring.current(at(-RELOAD_SECONDS + 0.001))).kids
        assert added.kid in (await scene.ring.current(at(-RELOAD_SECONDS))).kids

    async def test_keys_that_are_given_stay(self) -> None:
        pem = forging.pem(forging.new_key())
        scene = await load(memory_settings(signing_keys=pem))
        known = scene.ring.known
        added = await scene.add()
        assert await scene.ring.current(at(1000)) is known
        assert await scene.ring.find(added.kid, at(1000)) is None


class TestSearch:
    """For a key that a token names and nobody here has heard of."""

    async def test_it_is_looked_for_at_once(self, scene: Scene) -> None:
        added = await scene.add(SigningAlgorithm.RS256)
        found = await scene.ring.find(added.kid, NOW)
        assert found is not None
        assert (found.kid, found.algorithm) == (added.kid, added.algorithm)

    async def test_names_that_nobody_knows_are_looked_for_once_in_a_while(
        self, scene: Scene
    ) -> None:
        assert await scene.ring.find("nobody's", at(0)) is None
        added = await scene.add()
        for seconds in (0, 0.5, SEARCH_SECONDS - 0.001, -SEARCH_SECONDS + 0.001):
            assert await scene.ring.find(added.kid, at(seconds)) is None
        assert await scene.ring.find("nobody else's", at(SEARCH_SECONDS)) is None
        # Which has found this one beside.
        assert await scene.ring.find(added.kid, at(SEARCH_SECONDS)) is not None

    async def test_all_who_ask_at_once_are_told(self, scene: Scene) -> None:
        added = await scene.add()
        found: list[object] = []

        async def find() -> None:
            found.append(await scene.ring.find(added.kid, NOW))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(find)
        assert len(found) == 50
        assert None not in found

    async def test_who_asks_while_somebody_is_being_told_waits_for_that(
        self, database: Database, redis_url: str
    ) -> None:
        """Where the answer takes its time."""
        settings = postgres_settings(database, redis_url)
        storage = await open_storage(settings)
        try:
            scene = await load(settings, storage)
            added = await scene.add()
            found = await asyncio.gather(*(scene.ring.find(added.kid, NOW) for _ in range(50)))
            assert [key and key.kid for key in found] == [added.kid] * 50
        finally:
            await storage.close()

    async def test_however_many_ask_storage_is_asked_once(
        self, database: Database, redis_url: str
    ) -> None:
        settings = postgres_settings(database, redis_url)
        storage = await open_storage(settings)
        scene, sent = await load(settings, storage), []

        def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            sent.append(statement)

        event.listen(Engine, "before_cursor_execute", keep)
        try:
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(scene.ring.find, f"unknown{number}", at(number / 1000))
            assert len(sent) == 1
            async with anyio.create_task_group() as group:
                for _ in range(200):
                    group.start_soon(scene.ring.current, at(RELOAD_SECONDS))
            assert len(sent) == 2
        finally:
            event.remove(Engine, "before_cursor_execute", keep)
            await storage.close()


class TestTrouble:
    """A ring that cannot be read anew stays as it was."""

    async def test_a_registry_in_which_no_key_signs(self, scene: Scene) -> None:
        known = scene.ring.known
        await scene.set(known.signing.kid, PUBLISHED)
        assert await scene.ring.current(at(RELOAD_SECONDS)) is known
        await scene.set(known.signing.kid, SIGNING)
        await scene.add()
        assert len((await scene.ring.current(at(2 * RELOAD_SECONDS))).kids) == 2

    async def test_a_key_that_was_sealed_by_somebody_else(self, scene: Scene) -> None:
        known = scene.ring.known
        foreign = await scene.add(secret="another-secret-than-that-of-this-suite")
        assert await scene.ring.current(at(RELOAD_SECONDS)) is known
        assert await scene.ring.find(foreign.kid, at(RELOAD_SECONDS)) is None
        await scene.set(foreign.kid, RETIRED)
        added = await scene.add()
        assert added.kid in (await scene.ring.current(at(2 * RELOAD_SECONDS))).kids

    async def test_a_database_that_is_down(
        self, mortal_database: Database, mortal_postgres: Postgres, redis: Redis, redis_url: str
    ) -> None:
        async with running(postgres_settings(mortal_database, redis_url)) as gateway:
            ring = (await load(gateway.gateway.settings, gateway.gateway.storage)).ring
            known = ring.known
            mortal_postgres.kill()
            assert await ring.current(at(RELOAD_SECONDS)) is known
            # Somebody else may have made it, and what it signed may be good, or to be revoked.
            for seconds in (0, SEARCH_SECONDS / 2, SEARCH_SECONDS):
                with pytest.raises(Unavailable):
                    await ring.find("unknown", at(RELOAD_SECONDS + seconds))
            assert await ring.find(known.signing.kid, at(RELOAD_SECONDS)) is known.signing
            mortal_postgres.start()
            assert await ring.find("unknown", at(RELOAD_SECONDS + 2 * SEARCH_SECONDS)) is None
