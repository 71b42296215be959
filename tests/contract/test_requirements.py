"""docs/requirements.md has a row for every requirement that a test cites."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import citations, documents
from tools import requirements

TABLE = requirements.read_table(requirements.TABLE.read_text())


@pytest.mark.parametrize("path", citations.TEST_FILES, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_cited_requirements_have_a_row(path: Path) -> None:
    assert citations.unknown(path, "requirement", TABLE) == []


def test_an_id_has_one_row() -> None:
    with pytest.raises(ValueError, match="Z-17 has two rows"):
        requirements.read_table("| Z-17 | one |\n| Z-17 | two |\n")


def test_rows_below_waiting_are_not_due() -> None:
    table = requirements.read_table("## Due\n| T01 | one |\n## Waiting\n| T02 | two |\n")
    assert [each.is_due for each in table.values()] == [True, False]


def test_tests_are_found_in_junit_reports_by_class_and_name() -> None:
    name = requirements.junit_name("tests/unit/test_a.py::test_b[x/y.py::z]")
    assert name == ("tests.unit.test_a", "test_b[x/y.py::z]")
    assert requirements.junit_name("tests/unit/test_a.py::TestC::test_b") == ("tests.unit.test_a.TestC", "test_b")


@pytest.mark.parametrize(
    ("outcomes", "word"),
    [([], "no test"), (["passed", "skipped"], "skipped"), (["passed", "failed"], "failed"), (["passed"], "passed")],
)
def test_the_worst_outcome_of_a_requirements_tests_counts(outcomes: list[str], word: str) -> None:
    tests = [f"t.py::t{index}" for index in range(len(outcomes))]
    results = {("t", f"t{index}"): outcome for index, outcome in enumerate(outcomes)}
    assert requirements.outcome_of(tests, results) == word
