"""What tests cite: the arguments of their markers, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from support import documents

TEST_FILES = sorted(path for path in (documents.ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)
"""Every Python file below tests/."""


def citations(source: str, marker: str) -> Iterator[tuple[int, Any]]:
    """Line and value of each argument of `pytest.mark.<marker>(…)`.

    Raises:
        ValueError: an argument is no literal, such as a name or a call.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{marker}":
            for argument in node.args:
                yield node.lineno, ast.literal_eval(argument)


def unknown(path: Path, marker: str, known: Container[Any]) -> list[str]:
    """What a file cites and `known` does not contain, each with its line."""
    return [f"line {line}: {cited}" for line, cited in citations(path.read_text(), marker) if cited not in known]
