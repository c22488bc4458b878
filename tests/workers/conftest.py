"""The storage of the contract's tests, for what workers do with it: each test on both backends."""

from __future__ import annotations

from tests.contract.conftest import settings, storage

__all__ = ["settings", "storage"]
