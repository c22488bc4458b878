"""One tenant's tables."""

from __future__ import annotations

from uuid import UUID

from db.memory.agents import Agents
from db.memory.audit import AuditEvents
from db.memory.credentials import Credentials
from db.memory.units import Turns
from db.records import Revocation


class Tables:
    def __init__(self) -> None:
        self.agents = Agents()
        self.credentials = Credentials()
        self.audit = AuditEvents()
        self.revocations: dict[UUID, Revocation] = {}
        self.turns = Turns()
