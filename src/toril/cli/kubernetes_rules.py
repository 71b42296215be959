"""Checks of the API server that JSON Schema lacks: formats of numbers and times, duplicate list entries, labels.

The rules and their limits are those of Kubernetes' own validation; a test compares them with a real API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import jsonschema

from toril.specs import fields

MAP_KEYS = "x-kubernetes-list-map-keys"
LIST_TYPE = "x-kubernetes-list-type"

_TEXT = {"type": "string"}
_OPEN = {"type": "object"}
_WHOLE = {"type": "integer", "format": "int64"}
_TIME = {"type": "string", "format": "date-time"}
METADATA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion"), _TEXT),
        "generation": _WHOLE,
        "deletionGracePeriodSeconds": _WHOLE,
        "creationTimestamp": _TIME,
        "deletionTimestamp": _TIME,
        "labels": {"type": "object", "additionalProperties": {"type": "string", "format": "label"}, "format": "keys"},
        "annotations": {"type": "object", "additionalProperties": _TEXT, "format": "small-keys"},
        "finalizers": {"type": "array", "items": _TEXT},
        "ownerReferences": {"type": "array", "items": _OPEN},
        "managedFields": {"type": "array", "items": _OPEN},
    },
}
"""The metadata that any object may have."""

_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_KEY = re.compile(r"(?:(?P<prefix>[^/]*)/)?(?P<name>[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TIME_OF_DAY = re.compile(r"(\d{2}):(\d{2}):(\d{2})(\.\d+)?(z|[+-]\d{2}:\d{2})", re.ASCII)


def _format(_: Any, wanted: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if wanted in ("int32", "int64"):
        limit = 2 ** (int(wanted.removeprefix("int")) - 1)
        if isinstance(value, int) and value >= limit:
            yield jsonschema.ValidationError(fields.wording("maximum", limit - 1))
        elif isinstance(value, int) and value < -limit:
            yield jsonschema.ValidationError(fields.wording("minimum", -limit))
    elif wanted == "date-time":
        if isinstance(value, str) and not is_date_time(value):
            yield jsonschema.ValidationError(fields.NO_TIME)
    elif wanted == "label":
        if isinstance(value, str) and _LABEL.fullmatch(value) is None:
            yield jsonschema.ValidationError(
                "must be a label's value: at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"
            )
    elif wanted in ("keys", "small-keys") and isinstance(value, Mapping):
        # Kubernetes lowers the letters of annotation names before it checks them.
        for key in value:
            if not _is_qualified(str(key).lower() if wanted == "small-keys" else str(key)):
                yield jsonschema.ValidationError(f"{str(key)[:80]!r} is no name: 'name' or 'domain/name' is")


def _is_qualified(key: str) -> bool:
    found = _KEY.fullmatch(key)
    if found is None:
        return False
    prefix = found["prefix"]
    return prefix is None or (len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix) is not None)


def is_date_time(text: str) -> bool:
    """Whether a text is a time as the API server reads it: date, `T`, time of day, `Z` or an offset."""
    day, _, time = text.lower().partition("t")
    found = _TIME_OF_DAY.fullmatch(time)
    if found is None or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day, re.ASCII):
        return False
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


def _map_keys(_: Any, names: list[str], value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(value, list):
        return
    seen: set[tuple[str, ...]] = set()
    for entry in value:
        if not isinstance(entry, Mapping):
            continue
        key = tuple(str(entry.get(name)) for name in names)
        if key in seen:
            yield jsonschema.ValidationError(f"{', '.join(key)} is given twice")
        seen.add(key)


def _list_type(_: Any, wanted: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if wanted == "set" and isinstance(value, list) and len(set(map(repr, value))) < len(value):
        yield jsonschema.ValidationError("has an entry twice")


RULES = {"format": _format, MAP_KEYS: _map_keys, LIST_TYPE: _list_type}
"""Keyword of a schema → what checks it. The messages hold no values but names: a value may be a secret."""

Validator: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, RULES)  # type: ignore[no-untyped-call]
"""A JSON Schema validator that knows these keywords too."""
