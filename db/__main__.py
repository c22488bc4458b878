"""`python -m db`: migrate, status, downgrade, provision.

What was done is on standard output, a line for each tenant and revision; what went wrong is on
standard error, a line for each, and in the exit status: 1 when the database or a tenant stood in
the way, 2 when the command itself or the settings cannot be used. On a terminal a bar shows how
far the tenants are.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from collections.abc import Iterable, Sequence

from db import grammar, migrations
from db.backends import open_storage
from db.clock import system_clock
from db.errors import AgentIdPError, InvalidInput, MigrationFailed, Misconfigured
from db.migrations import CONCURRENCY, Change, Outcome, Progress
from db.progress import bar
from db.provisioning import provision_tenant
from db.settings import StorageSettings

_MOST_CONNECTIONS = 32
_NAMED = 10
_DONE, _FAILED, _UNUSABLE, _INTERRUPTED = 0, 1, 2, 130

_LINES = {
    Change.APPLIED: "✓ Applied: {0.subject} {0.revision}",
    Change.SKIPPED: "- Skipped (already applied): {0.subject} {0.revision}",
    Change.REVERTED: "✓ Reverted: {0.subject} {0.revision}",
    Change.FAILED: "✗ Failed: {0.subject} {0.revision}: {0.error}",
}


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a tick must not break a migration.
            stream.reconfigure(errors="replace")
    chosen = _parser().parse_args(arguments)
    try:
        settings = StorageSettings.load()
        if settings.in_memory:
            raise Misconfigured("DATABASE_URL is memory://: there is no database to migrate")
        if getattr(chosen, "tenant", None) is not None:
            grammar.slug(chosen.tenant, "tenant")
        for canary in getattr(chosen, "canary", ()):
            grammar.slug(canary, "canary")
        return asyncio.run(_run(settings, chosen))
    except AgentIdPError as error:
        named = (
            f"--{'.'.join(error.path)}: " if isinstance(error, InvalidInput) and error.path else ""
        )
        print(f"error: {named}{error.message}", file=sys.stderr)
        usable = isinstance(error, MigrationFailed) or not isinstance(
            error, (InvalidInput, Misconfigured)
        )
        return _FAILED if usable else _UNUSABLE
    except KeyboardInterrupt:
        print("interrupted: what was reported is done, the rest is as it was", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m db", description="The database's tables.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    migrate = commands.add_parser("migrate", help="bring the registry and every tenant to head")
    migrate.add_argument("--tenant", metavar="SLUG", help="the registry and this tenant alone")
    migrate.add_argument(
        "--canary",
        metavar="SLUG",
        action="append",
        default=[],
        help="this tenant before all others, which are not begun if it fails; may be repeated",
    )
    migrate.add_argument(
        "--concurrency",
        metavar="N",
        type=_connections,
        default=CONCURRENCY,
        help=f"how many tenants at once, a connection for each; {CONCURRENCY} if not given",
    )

    commands.add_parser("status", help="how far every tenant is, and what was migrated when")

    downgrade = commands.add_parser("downgrade", help="take revisions of a tenant back")
    downgrade.add_argument("--tenant", metavar="SLUG", required=True)
    downgrade.add_argument(
        "--to", metavar="REV", required=True, help="the last revision to keep, or base"
    )
    downgrade.add_argument(
        "--yes", action="store_true", help="even if what is lost cannot be brought back"
    )

    provision = commands.add_parser("provision", help="register a tenant and make its tables")
    provision.add_argument("--tenant", metavar="SLUG", required=True)
    provision.add_argument("--display-name", metavar="NAME", help="the slug, if not given")
    return parser


def _connections(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_CONNECTIONS:
        raise argparse.ArgumentTypeError(f"1 to {_MOST_CONNECTIONS}")
    return number


async def _run(settings: StorageSettings, chosen: argparse.Namespace) -> int:
    match chosen.command:
        case "migrate":
            return await _migrate(settings, chosen)
        case "downgrade":
            return await _downgrade(settings, chosen.tenant, chosen.to, destroy=chosen.yes)
        case "provision":
            return await _provision(settings, chosen.tenant, chosen.display_name)
        case _:
            return await _status(settings)


async def _migrate(settings: StorageSettings, chosen: argparse.Namespace) -> int:
    print("Running database migrations...", flush=True)
    with bar("tenants") as advance:
        summary = await migrations.migrate(
            settings,
            now=system_clock(),
            tenants=[chosen.tenant] if chosen.tenant else None,
            report=_report,
            advance=advance,
            canaries=chosen.canary,
            concurrency=chosen.concurrency,
        )
    applied = f"{summary.changed} migration(s) applied"
    if not summary.failed:
        print(f"Migrations complete. {applied}.")
        return _DONE
    left = ""
    if summary.left:
        named = ", ".join(summary.left[:_NAMED])
        more = "" if len(summary.left) <= _NAMED else f" and {len(summary.left) - _NAMED} more"
        print(f"✗ Not begun, because too much before failed: {named}{more}", file=sys.stderr)
        left = f", {len(summary.left)} not begun"
    print(f"Migrations incomplete. {applied}, {len(summary.failed)} tenant(s) failed{left}.")
    return _FAILED


async def _downgrade(settings: StorageSettings, tenant: str, to: str, *, destroy: bool) -> int:
    summary = await migrations.downgrade(
        settings, tenant, to, now=system_clock(), destroy=destroy, report=_report
    )
    print(f"Downgrade complete. {summary.changed} migration(s) reverted.")
    return _DONE


async def _provision(settings: StorageSettings, slug: str, display_name: str | None) -> int:
    now = system_clock()
    await migrations.migrate(settings, now=now, tenants=(), report=_report)
    storage = await open_storage(settings, serving=False)
    try:
        tenant, new = await provision_tenant(storage, slug, display_name, now)
    finally:
        await storage.close()
    if new:
        print(f"✓ Provisioned: {tenant.slug} {tenant.revision}")
    elif not tenant.is_active:
        print(f"✓ Tables made: {tenant.slug}; a worker will admit its administrator")
    else:
        print(f"- Skipped (already active): {tenant.slug} {tenant.revision}")
    return _DONE


async def _status(settings: StorageSettings) -> int:
    kind = await migrations.kind(settings)
    status = await migrations.status(settings)
    print(f"{kind}\n")
    _print_table(
        ("name", "status", "revision", "migrations"),
        [
            (each.subject, each.status or "", each.revision or "", _standing(each))
            for each in status.progress
        ],
    )
    _print_table(
        ("name", "revision", "applied_at", "ms", "error"),
        [
            (each.subject, each.revision, f"{each.applied_at}", f"{each.ms}", each.error or "")
            for each in status.attempts
        ],
    )
    return _DONE


def _report(outcome: Outcome) -> None:
    failed = outcome.change is Change.FAILED
    # Whoever watches sees each line when it is true, also through a pipe.
    print(
        _LINES[outcome.change].format(outcome),
        file=sys.stderr if failed else sys.stdout,
        flush=True,
    )


def _standing(progress: Progress) -> str:
    if progress.revision is None:
        return "not migrated"
    if progress.revision == progress.head:
        return "at head"
    return f"head is {progress.head}"


def _print_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    kept = [names, *rows]
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    lines = [" | ".join(map(str.ljust, row, widths)).rstrip() for row in kept]
    rule = "-+-".join("-" * width for width in widths)
    print("\n".join([f" {lines[0]}", f"-{rule}-", *(f" {line}" for line in lines[1:])]))
    print(f"({len(kept) - 1} rows)\n")


if __name__ == "__main__":
    sys.exit(main())
