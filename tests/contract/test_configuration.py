"""The variables that the programs read are those of docs/configuration.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support import documents

NAME = re.compile(r"(TORIL|REDIS)_[A-Z_]*[A-Z]")
SOURCES = (documents.ROOT / "src" / "toril", documents.ROOT / "operator" / "src" / "toril_operator")


def names_in_code() -> Iterator[str]:
    """Every text in the sources that is the name of a variable and nothing else."""
    for folder in SOURCES:
        for file in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                    yield node.value


def test_the_variables_are_those_of_the_page() -> None:
    page = Path(documents.ROOT, "docs", "configuration.md").read_text()
    listed = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(names_in_code()))
