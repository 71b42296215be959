"""Reads typed values out of a manifest's nested dicts; a value that does not fit is an error with the field's path.

`PROBLEMS` words what is wrong, here and where a manifest is checked against its CRD (`toril.cli.schemas`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from toril import errors

E = TypeVar("E", bound=StrEnum)

PROBLEMS: Mapping[str, str] = {
    "required": "is required",
    "type": "must be of type {wanted}",
    "enum": "must be one of: {wanted}",
    "minimum": "must be greater than or equal to {wanted}",
    "maximum": "must be less than or equal to {wanted}",
    "minLength": "must be at least {wanted} chars long",
    "maxLength": "must be at most {wanted} chars long",
    "minItems": "must have at least {wanted} items",
    "maxItems": "must have at most {wanted} items",
    "pattern": "must match {wanted}",
}
"""Rule of a JSON schema → the problem, nearly in the words of the Kubernetes API server ("should be less than or equal
to"). The value itself is never shown: it may be a secret in the wrong place."""
_RETENTION = "such as {count: 100}; {count: 0} keeps none, as `true` does in BullMQ; without the field all are kept"
_FORMS: Mapping[str, str] = {
    "removeOnComplete": _RETENTION,
    "removeOnFail": _RETENTION,
    "backoff": "such as {type: fixed, delay: 5000}, milliseconds",
    "url": "redis://host:port/db, or rediss://… for TLS, without user and password",
    "host": "a name or an address, without scheme and port",
}
"""Field → the form that it has in a manifest, for fields that are mistaken often."""
NO_TIME = "must be a time with its offset, such as 2030-01-31T08:00:00Z"
"""The problem of a text that is no RFC 3339 time."""


def wording(rule: str, wanted: object = "") -> str:
    """What is wrong with a value that breaks a rule of `PROBLEMS`."""
    return PROBLEMS[rule].format(wanted=wanted)


def form_of(path: str) -> str | None:
    """The form of the field with this path; None = the problem of `PROBLEMS` says enough."""
    return _FORMS.get(path.rpartition(".")[2])


class Fields:
    """One mapping of a manifest, and its path from the root. A field that is null counts as not given."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self.values = values
        self.path = path

    @classmethod
    def of(cls, value: Any, path: str) -> Fields:
        """Raises InvalidSpecError when `value` is no mapping. None counts as an empty one."""
        if value is None:
            return cls({}, path)
        if not isinstance(value, Mapping):
            raise errors.InvalidSpecError(path, wording("type", "object"))
        return cls(value, path)

    @classmethod
    def of_object(cls, manifest: Mapping[str, Any], api_version: str, kind: str) -> Fields:
        """A whole manifest. Raises InvalidSpecError when it is of another version or kind."""
        root = cls.of(manifest, "")
        if root.text("apiVersion") != api_version or root.text("kind") != kind:
            raise errors.InvalidSpecError("apiVersion", f"must be {api_version}, and kind {kind}")
        return root

    def at(self, name: str) -> str:
        """The path of one field."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def refuse(self, name: str, why: str) -> errors.InvalidSpecError:
        """The error to raise about one field."""
        return errors.InvalidSpecError(self.at(name), why)

    def object(self, name: str) -> Fields:
        """A nested mapping; an empty one when it is not given."""
        return Fields.of(self.values.get(name), self.at(name))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A nested mapping as it is, without the fields that are null."""
        return {key: value for key, value in self.object(name).values.items() if value is not None}

    def list(self, name: str) -> Sequence[Any]:
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise self.refuse(name, wording("type", "array"))
        return tuple(value)

    def text_or_none(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.refuse(name, wording("type", "string"))
        if value == "":
            raise self.refuse(name, wording("minLength", 1))
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be given."""
        value = self.text_or_none(name)
        if value is None:
            if default is None:
                raise self.refuse(name, wording("required"))
            return default
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, wording("type", "boolean"))
        return value

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            raise self.refuse(name, wording("type", "integer"))
        if value < lowest:
            raise self.refuse(name, wording("minimum", lowest))
        if value > highest:
            raise self.refuse(name, wording("maximum", highest))
        return int(value)

    def choice(self, name: str, default: E) -> E:
        """One of an enum's values; the enum is that of the default."""
        value = self.values.get(name)
        if value is None:
            return default
        kind = type(default)
        try:
            return kind(value)
        except ValueError:
            raise self.refuse(name, wording("enum", ", ".join(kind))) from None
