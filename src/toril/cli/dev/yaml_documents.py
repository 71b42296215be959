"""YAML as Kubernetes reads it: dates stay text, a key given twice is an error, and anchors are bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

MAX_VALUES = 200_000
"""Values that a document may hold once its anchors are written out. An API server takes at most 3 MiB."""
MAX_DEPTH = 100
"""Deepest nesting that is read."""


class DocumentError(Exception):
    """A text that cannot be used. `str()` says why, after a position (`:3:7`) where one is known."""

    def __init__(self, message: str, position: str = "") -> None:
        super().__init__(message)
        self.position = position


class _Loader(yaml.CSafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if (key := str(key_node.value)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str) -> Iterator[Any]:
    """The documents of a text, one by one; documents before a mistake are yielded.

    Raises:
        DocumentError: what follows is no YAML, nests too deeply, or grows too large.
    """
    try:
        for document in yaml.load_all(text, _Loader):
            _size(document, {}, 0)
            yield document
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise DocumentError(f"not YAML: {problem.problem}", where) from None
    except RecursionError:
        raise DocumentError(f"nests more than {MAX_DEPTH} levels deep") from None
    except yaml.YAMLError:
        raise DocumentError("not YAML text") from None


def _size(value: Any, known: dict[int, int | None], depth: int) -> int:
    """Number of values with every anchor written out. `known`: sizes of objects so far; None = in work."""
    if not isinstance(value, Mapping | list):
        return 1
    if depth > MAX_DEPTH:
        raise DocumentError(f"nests more than {MAX_DEPTH} levels deep")
    size = known.get(id(value), 0)
    if size is None:
        raise DocumentError("an anchor holds itself")
    if size == 0:
        known[id(value)] = None
        parts = value.values() if isinstance(value, Mapping) else value
        size = known[id(value)] = 1 + sum(_size(part, known, depth + 1) for part in parts)
    if size > MAX_VALUES:
        raise DocumentError(f"its anchors write out to more than {MAX_VALUES} values")
    return size
