"""What the manifests of one kind ask for, parsed once a generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from toril import errors
from toril_operator.object_cache import Key

Json = Mapping[str, Any]
Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Spec]):
    uid: str
    generation: int
    spec: Spec | None
    """None: it cannot be read."""
    problem: str
    """Why not, with the field's path."""


class SpecCache(Generic[Spec]):
    """By key, until the object changes or is forgotten."""

    def __init__(self, parse: Callable[[Json], Spec]) -> None:
        """Args: parse: raises InvalidInputError for a spec that makes no sense."""
        self._parse = parse
        self._known: dict[Key, Parsed[Spec]] = {}

    def get(self, key: Key, manifest: Json) -> Parsed[Spec]:
        uid, generation = manifest["metadata"]["uid"], manifest["metadata"]["generation"]
        known = self._known.get(key)
        if known is not None and (known.uid, known.generation) == (uid, generation):
            return known
        try:
            parsed = Parsed(uid, generation, self._parse(manifest), "")
        except errors.InvalidInputError as problem:
            parsed = Parsed(uid, generation, None, str(problem))
        self._known[key] = parsed
        return parsed

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)
