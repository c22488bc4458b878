"""A revision of the tenants' chain as text: written down once for each process, stamped for each
tenant.

alembic writes it under the names of a tenant that cannot exist; for a tenant that does, its prefix
is put in the other's place. That costs next to nothing, needs no turn at alembic's globals, and
goes to the server as one message. So a revision must take all its names from the `TenantPrefix`
and use that whole; one that looks at the prefix, or at the database, says `online_only = True`.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.postgres.chains import Chain
from db.postgres.owner import reason

# As long as a prefix can be, so that no name fits here and is cut elsewhere; 88 random bits, so
# that no text of a revision's own is taken for it.
_PLACEHOLDER = TenantPrefix(f"t{secrets.token_hex(11)}z")

_written: dict[tuple[Path, str], str] = {}


async def stamped(chain: Chain, revision: str) -> str:
    """The script that brings the tables of the chain's tenant to `revision` from the one before.

    Raises MigrationFailed when the revision cannot be written down.
    """
    key = (chain.scripts, revision)
    if key not in _written:
        try:
            _written[key] = await Chain(_PLACEHOLDER, chain.scripts).script(revision)
        except Exception as error:
            # A revision is a program and may raise anything.
            raise MigrationFailed(
                f"it cannot be written down for all tenants at once: {reason(error)}; a revision"
                " that looks at one needs `online_only = True`"
            ) from error
    return _written[key].replace(str(_PLACEHOLDER), chain.subject)
