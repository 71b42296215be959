"""The variables that the programs read are those of docs/configuration.md, and each that is set is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support import documents

NAME = re.compile(r"(TORIL|REDIS)_[A-Z_]*[A-Z]")
SOURCES = (documents.ROOT / "src" / "toril", documents.ROOT / "operator" / "src" / "toril_operator")


TORIL = SOURCES[0]
READERS = (TORIL / "engine", TORIL / "worker")
SETTERS = (TORIL / "specs" / "worker_environment.py", TORIL / "cli", SOURCES[1])


def names_in(*places: Path) -> Iterator[str]:
    """Every text in files, and in the files of folders, that is the name of a variable and nothing else."""
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                    yield node.value


def test_the_variables_are_those_of_the_page() -> None:
    page = Path(documents.ROOT, "docs", "configuration.md").read_text()
    listed = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(names_in(*SOURCES)))


def test_every_variable_that_is_set_for_a_worker_is_read_by_one() -> None:
    read, given = set(names_in(*READERS)), set(names_in(*SETTERS))
    assert len(given) > 15
    assert sorted(given - read) == []


def test_no_other_part_spells_a_variable() -> None:
    """Readers are the engine and the worker; setters are the operator, the command line and `specs`."""
    assert set(names_in(*SOURCES)) == set(names_in(*READERS))
    others = [
        file for file in SOURCES[0].rglob("*.py") if not any(file.is_relative_to(p) for p in (*READERS, *SETTERS))
    ]
    assert {file.name: names for file in others if (names := sorted(names_in(file)))} == {}
