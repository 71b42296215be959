"""What CONTRIBUTING, the engine's README and the pages say about the sources is so: paths and symbols exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import documents

ROOT = documents.ROOT
TORIL = ROOT / "src" / "toril"
OPERATOR = ROOT / "operator" / "src" / "toril_operator"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [
    CONTRIBUTING,
    TORIL / "engine" / "README.md",
    ROOT / "docs" / "architecture.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
BASES = (ROOT, ROOT / "docs", TORIL, TORIL / "engine", TORIL / "worker", OPERATOR)
"""Where a path on these pages may begin."""
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|lua|toml))`")
"""Text in backticks with a slash, or the name of a source file. A place in a URL begins with a slash and is none."""
PLACE = re.compile(r"`([\w./-]+\.(?:py|lua)):(\w+)`")
"""A file and something that is defined in it."""


def named_paths(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each path of a page, with the folders that its line names: within a row of a table a path may begin there."""
    for line in page.read_text().splitlines():
        paths = PATH.findall(line)
        folders = [path for path in paths if path.endswith("/")]
        for path in (*paths, *(file for file, _ in PLACE.findall(line))):
            yield path, folders


def exists(path: str, page: Path, folders: list[str]) -> bool:
    bases = (page.parent, *BASES, *(ROOT / folder for folder in folders))
    return any((base / path).exists() for base in bases)


def defined_in(file: Path) -> set[str]:
    """Names of the functions, methods, classes and constants of a file."""
    source = file.read_text()
    if file.suffix == ".lua":
        return set(re.findall(r"^(?:local )?(?:function )?(\w+)(?: = function)?(?:\(|$| =)", source, re.MULTILINE))
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def map_of_the_sources() -> str:
    text = CONTRIBUTING.read_text()
    return text.partition("\n## Map of the sources\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_paths_that_a_page_names_exist(page: Path) -> None:
    assert [path for path, folders in named_paths(page) if not exists(path, page, folders)] == []


def test_contributing_names_paths_in_full() -> None:
    """A reader can open each without a guess. Within a row of the map, files of the row's folder may be short."""
    text = CONTRIBUTING.read_text().replace(map_of_the_sources(), "")
    begins = ("src/", "operator/", "tests/", "tools/", "docs/", "crds/", "charts/")
    assert [path for path, _ in PLACE.findall(text) if not path.startswith(begins)] == []


@pytest.mark.parametrize("place", PLACE.findall(CONTRIBUTING.read_text()), ids=":".join)
def test_what_contributing_points_at_is_defined_there(place: tuple[str, str]) -> None:
    file, name = place
    assert name in defined_in(ROOT / file)


@pytest.mark.parametrize("package", [TORIL, OPERATOR], ids=lambda package: package.name)
def test_the_map_has_every_package_and_loose_module(package: Path) -> None:
    text = map_of_the_sources()
    short = str(package.relative_to(ROOT))
    row = next((line for line in text.splitlines() if line.startswith(f"| `{short}/`")), "")
    missing = []
    for part in sorted(package.iterdir()):
        if part.is_dir() and (part / "__init__.py").exists():
            missing += [part.name] if f"`{short}/{part.name}/`" not in text else []
        elif part.suffix == ".py" and not part.name.startswith("__"):
            is_there = f"`{short}/{part.name}`" in text or f"`{part.name}`" in row
            missing += [] if is_there else [part.name]
    assert missing == []


def test_there_is_something_to_check() -> None:
    assert len(PLACE.findall(CONTRIBUTING.read_text())) > 20
    assert len(list(named_paths(TORIL / "engine" / "README.md"))) > 3


def test_the_index_of_pages_has_them_all() -> None:
    index = ROOT / "docs" / "README.md"
    linked = set(re.findall(r"\]\(([^)#]+\.md)", index.read_text()))
    pages = {str(page.relative_to(index.parent)) for page in index.parent.rglob("*.md") if page != index}
    assert sorted(pages - linked) == []
    titles = dict(re.findall(r"^- \[(.+)\]\((decisions/.+)\)$", index.read_text(), re.MULTILINE))
    decisions = (index.parent / "decisions").glob("*.md")
    written = {
        path.read_text().partition("\n")[0].removeprefix("# "): str(path.relative_to(index.parent))
        for path in decisions
    }
    assert titles == written
