"""One job at a time for each deduplication id: BullMQ's `deduplication` option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toril import errors

MAX_ID_LENGTH = 1024
_FLAGS = ("extend", "replace", "keepLastIfActive", "reschedule")


def checked(value: Any, path: str = "opts.deduplication") -> dict[str, Any]:
    """Return the option as it is stored, without what is not given.

    Args:
        value: `{id}` and any of `ttl` (milliseconds), `extend`, `replace`, `keepLastIfActive`, `reschedule`.

    Raises:
        InvalidOptionError: another form; names the field.
    """
    if not isinstance(value, Mapping):
        raise errors.InvalidOptionError(path, f"must be {{id}}, with any of ttl, {', '.join(_FLAGS)}")
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if name not in ("id", "ttl", *_FLAGS):
            raise errors.InvalidOptionError(f"{path}.{name}", f"is unknown; known are id, ttl, {', '.join(_FLAGS)}")
        if inner is not None:
            found[name] = _checked_part(name, inner, f"{path}.{name}")
    if "id" not in found:
        raise errors.InvalidOptionError(f"{path}.id", "is missing: jobs with the same id are duplicates")
    return found


def checked_id(value: Any, path: str) -> str:
    """Return a deduplication id. Raises InvalidOptionError."""
    if not isinstance(value, str) or not value:
        raise errors.InvalidOptionError(path, "must be text and not empty")
    if len(value) > MAX_ID_LENGTH or not value.isprintable():
        raise errors.InvalidOptionError(path, f"must be at most {MAX_ID_LENGTH} printable characters")
    return value


def _checked_part(name: str, value: Any, path: str) -> Any:
    if name == "id":
        return checked_id(value, path)
    if name == "ttl":
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or not 0 <= value <= 2**41:
            raise errors.InvalidOptionError(path, "must be a number of milliseconds, 0 or more")
        if value != int(value):
            raise errors.InvalidOptionError(path, "must be whole milliseconds")
        return int(value)
    if not isinstance(value, bool):
        raise errors.InvalidOptionError(path, "must be true or false")
    return value
