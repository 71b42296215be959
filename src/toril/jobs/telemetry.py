"""BullMQ's option `telemetry`, the trace context of a job: `{metadata, omitContext}`, stored as `tm` and `omc`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toril import errors

NAMES = ("telemetry", "tm", "omc")
"""The option's name, and the two names under which it is stored. BullMQ takes the stored names from callers too."""


def to_wire(options: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The stored form: text `tm` and flag `omc`, each only if given.

    A `tm` that is no text and an `omc` that is no flag count as not given.

    Raises:
        InvalidOptionError: `telemetry` is given and of another form.
    """
    wire = of_wire(options)
    stored = {name: wire[long] for name, long in (("tm", "metadata"), ("omc", "omitContext")) if long in wire}
    given = options.get("telemetry")
    if given is None:
        return stored
    path = f"{path}.telemetry"
    if not isinstance(given, Mapping):
        raise errors.InvalidOptionError(path, "must be {metadata, omitContext}")
    for name, value in given.items():
        if name not in ("metadata", "omitContext"):
            raise errors.InvalidOptionError(f"{path}.{name}", "is unknown; known are metadata, omitContext")
        if value is None:
            continue
        if name == "metadata":
            if not _is_text(value):
                raise errors.InvalidOptionError(f"{path}.metadata", "must be text, as your tracer writes its context")
            stored["tm"] = value
        elif not isinstance(value, bool):
            raise errors.InvalidOptionError(f"{path}.omitContext", "must be true or false")
        else:
            stored["omc"] = value
    return stored


def of_wire(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The option as callers read it. Invalid `tm` and `omc` are left out; empty = nothing valid is stored."""
    found: dict[str, Any] = {}
    if _is_text(stored.get("tm")):
        found["metadata"] = stored["tm"]
    if isinstance(stored.get("omc"), bool):
        found["omitContext"] = stored["omc"]
    return found


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
