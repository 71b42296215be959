"""Reads typed values out of a manifest's nested dicts; what does not fit is an error with the field's path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from toril import errors

E = TypeVar("E", bound=StrEnum)


class Fields:
    """One mapping of a manifest and where it stands. A field that is null counts as not given."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self.values = values
        self.path = path

    @classmethod
    def of(cls, value: Any, path: str) -> Fields:
        """Raises InvalidSpecError when `value` is no mapping. None counts as an empty one."""
        if value is None:
            return cls({}, path)
        if not isinstance(value, Mapping):
            raise errors.InvalidSpecError(path, "must be an object")
        return cls(value, path)

    def at(self, name: str) -> str:
        """The path of one field."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def refuse(self, name: str, problem: str) -> errors.InvalidSpecError:
        """The error to raise about one field."""
        return errors.InvalidSpecError(self.at(name), problem)

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
            raise self.refuse(name, "must be a list")
        return tuple(value)

    def text_or_none(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.refuse(name, "must be text and not empty")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be given."""
        value = self.text_or_none(name)
        if value is None:
            if default is None:
                raise self.refuse(name, "is required")
            return default
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "must be true or false")
        return value

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            raise self.refuse(name, "must be a whole number")
        if not lowest <= value <= highest:
            raise self.refuse(name, f"must be between {lowest} and {highest}")
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
            raise self.refuse(name, f"must be {' or '.join(kind)}") from None
