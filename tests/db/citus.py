"""What a plain PostgreSQL needs to be taken for one with Citus, and to refuse what that refuses.

Nothing is distributed: what would be is noted. The names, their schema and the refusals are those
of Citus 13.0.3, so the statements that it would get are run here, in their order and transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from db.postgres.driver import driver_of
from tests.servers.databases import Database, Databases, run
from tests.servers.postgres import Postgres

VERSION = "13.0.3"

_OWNER = "citus_owner"
_STAND_IN = f"""
SET allow_system_table_mods = on;

INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (4711, 'citus', 10, 'pg_catalog'::regnamespace, false, '13.0-1');

CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass PRIMARY KEY, partmethod "char", colocationid int
);
GRANT SELECT ON pg_catalog.pg_dist_partition TO PUBLIC;

CREATE SCHEMA stand_in;
GRANT USAGE ON SCHEMA stand_in TO PUBLIC;
CREATE TABLE stand_in.calls (
    number int GENERATED ALWAYS AS IDENTITY, relation text, colocate_with text
);
GRANT SELECT ON stand_in.calls TO PUBLIC;

CREATE FUNCTION pg_catalog.citus_version() RETURNS text LANGUAGE sql
AS $$ SELECT 'Citus {VERSION} on x86_64-pc-linux-gnu, compiled by gcc' $$;

CREATE FUNCTION stand_in.has_trigger(relation oid) RETURNS bool LANGUAGE sql
AS $$ SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND NOT tgisinternal) $$;

CREATE FUNCTION stand_in.refuse_triggers(relation oid) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN
    IF stand_in.has_trigger(relation)
        AND coalesce(current_setting('citus.enable_unsafe_triggers', true), '') <> 'on'
    THEN
        RAISE 'cannot distribute relation "%" because it has triggers', relation::regclass;
    END IF;
END $$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    part regclass;
BEGIN
    IF distribution_column IS NOT NULL THEN
        RAISE 'a tenant is kept on one node: it has no distribution column';
    END IF;
    IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE 'table "%" is already distributed', table_name;
    END IF;
    IF colocate_with <> 'none' AND NOT EXISTS (
        SELECT FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass
    ) THEN
        RAISE 'relation % is not distributed', colocate_with;
    END IF;
    IF EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = table_name AND contype = 'f'
            AND confrelid NOT IN (SELECT logicalrelid FROM pg_dist_partition)
    ) THEN
        RAISE 'referenced table must be a distributed table or a reference table';
    END IF;
    FOR part IN SELECT table_name UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = table_name
    LOOP
        PERFORM stand_in.refuse_triggers(part);
        INSERT INTO pg_dist_partition VALUES (part, 'n', 1);
    END LOOP;
    INSERT INTO stand_in.calls (relation, colocate_with)
    VALUES (table_name::text, create_distributed_table.colocate_with);
END $$;

CREATE FUNCTION stand_in.before() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() ~* 'detach partition [^;]* concurrently' THEN
        RAISE 'ALTER TABLE DETACH PARTITION CONCURRENTLY commands are currently unsupported';
    END IF;
END $$;
CREATE EVENT TRIGGER before ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
EXECUTE FUNCTION stand_in.before();

CREATE FUNCTION stand_in.after() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    part regclass;
BEGIN
    -- A trigger on what is distributed already, and a partition that joins it.
    FOR part IN
        SELECT tgrelid FROM pg_event_trigger_ddl_commands() d JOIN pg_trigger t ON t.oid = d.objid
            JOIN pg_dist_partition ON logicalrelid = tgrelid
            WHERE tg_tag = 'CREATE TRIGGER' AND d.classid = 'pg_trigger'::regclass
        UNION ALL SELECT inhrelid FROM pg_inherits JOIN pg_dist_partition
            ON logicalrelid = inhparent WHERE inhrelid NOT IN (
                SELECT logicalrelid FROM pg_dist_partition)
            AND inhrelid::regclass::text !~ '_idx|_pkey'
    LOOP
        PERFORM stand_in.refuse_triggers(part);
        INSERT INTO pg_dist_partition VALUES (part, 'n', 1) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
CREATE EVENT TRIGGER after ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER')
EXECUTE FUNCTION stand_in.after();

CREATE FUNCTION stand_in.dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM pg_dist_partition WHERE logicalrelid NOT IN (SELECT oid FROM pg_class);
END $$;
CREATE EVENT TRIGGER dropped ON sql_drop EXECUTE FUNCTION stand_in.dropped();
"""


class Cluster:
    """A server whose databases can be made to look like Citus: that takes a superuser."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        run(server.url(), _make_owner)
        self.databases = Databases(server.url(_OWNER), disposable=True)

    async def pretend(self, database: Database) -> None:
        """From now on this database has Citus."""
        await self.as_superuser(database, _STAND_IN)

    async def as_superuser(self, database: Database, script: str) -> None:
        name = str(make_url(database.owner_url).database)

        async def act(connection: AsyncConnection) -> None:
            await (await driver_of(connection)).execute(script)

        await asyncio.to_thread(run, self._server.url(database=name), act)


@contextmanager
def cluster(place: Path) -> Iterator[Cluster]:
    server = Postgres(place / "citus")
    server.start()
    try:
        yield Cluster(server)
    finally:
        server.stop()


async def _make_owner(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(f"CREATE ROLE {_OWNER} LOGIN CREATEDB CREATEROLE")
