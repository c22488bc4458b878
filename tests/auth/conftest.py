from __future__ import annotations

from tests.gateway import backend, gateway, in_memory

__all__ = ["backend", "gateway", "in_memory"]
