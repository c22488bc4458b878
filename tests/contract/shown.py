"""Answers as they can be compared: to the last type, digit and offset, partial records too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from db.errors import Refused

# One is not 1.0 and not True here, and members have an order.
_JSON = {"permissions", "metadata", "limits", "progress", "report", "result", "public_key"}
_ABSENT = object()


def shown_error(error: Exception) -> object:
    if isinstance(error, Refused):
        return type(error), error.code, error.path, error.message
    return type(error), getattr(error, "code", None)


def shown(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        members = ((each.name, getattr(value, each.name, _ABSENT)) for each in fields(value))
        return type(value), {
            name: json.dumps(member) if name in _JSON else shown(member)
            for name, member in members
            if member is not _ABSENT
        }
    if isinstance(value, Mapping):
        return {key: shown(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Enum, UUID)):
        # A database driver's UUID is one of a class of its own, equal to any other.
        return value
    return type(value), value
