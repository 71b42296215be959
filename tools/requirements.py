"""Which tests prove which requirement: rows of docs/requirements.md, the tests that cite them, and how they ended.

Tests are collected by pytest itself, by their marker; results come from JUnit reports (`pytest --junit-xml`).
Exit code 1: a row that is due has no test, or a test of it failed.

Usage: .venv/bin/python tools/requirements.py [--junit FILE ...] [--verbose]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "requirements.md"
WAITING = "Waiting"
"""Heading of the rows that no test has to prove yet."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the table."""

    id: str
    text: str
    is_due: bool


def read_table(markdown: str) -> dict[str, Requirement]:
    """The rows by id. Raises ValueError when an id has two rows."""
    found: dict[str, Requirement] = {}
    is_due = True
    for line in markdown.splitlines():
        if line.startswith("## "):
            is_due = line.removeprefix("## ").strip() != WAITING
        row = re.fullmatch(r"\| ([A-Z]-?\d+) \| (.+) \|", line)
        if row is None:
            continue
        if row[1] in found:
            raise ValueError(f"{row[1]} has two rows")
        found[row[1]] = Requirement(row[1], row[2], is_due)
    return found


class Collector:
    """A pytest plugin that collects which tests cite what."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.tests: dict[Any, set[str]] = {}
        """What the marker was given → ids of tests."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers(self.marker):
                for cited in mark.args:
                    self.tests.setdefault(cited, set()).add(item.nodeid)


def collect_tests(marker: str) -> dict[Any, set[str]]:
    """What tests cite by a marker → their ids. Exits with pytest's own words when collecting fails."""
    collector, said = Collector(marker), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "-q", "--rootdir", str(ROOT), str(ROOT / "tests")], plugins=[collector])
    if code != pytest.ExitCode.OK:
        sys.exit(said.getvalue())
    return collector.tests


def read_results(reports: Iterable[Path]) -> dict[tuple[str, str], str]:
    """(class name, test name), as JUnit has them → passed, failed or skipped."""
    results = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            outcome = "passed"
            if case.find("failure") is not None or case.find("error") is not None:
                outcome = "failed"
            elif case.find("skipped") is not None:
                outcome = "skipped"
            results[case.get("classname", ""), case.get("name", "")] = outcome
    return results


def junit_name(test_id: str) -> tuple[str, str]:
    """A test's id, as pytest writes it into JUnit reports."""
    path, bracket, parameters = test_id.partition("[")
    names = path.split("::")
    names[0] = names[0].removesuffix(".py").replace("/", ".")
    return ".".join(names[:-1]), names[-1] + bracket + parameters


def outcome_of(tests: Iterable[str], results: Mapping[tuple[str, str], str]) -> str:
    """One word for all tests of a requirement: the worst of theirs."""
    outcomes = {results.get(junit_name(test), "not run") for test in tests}
    for word in ("failed", "not run", "skipped", "passed"):
        if word in outcomes:
            return word
    return "no test"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junit", nargs="+", type=Path, default=[], metavar="FILE", help="reports of test runs")
    parser.add_argument("--verbose", action="store_true", help="name the tests of each row")
    options = parser.parse_args()
    table, tests = read_table(TABLE.read_text()), collect_tests("requirement")
    results = read_results(options.junit)
    bad = 0
    for requirement in table.values():
        cited_by = sorted(tests.get(requirement.id, ()))
        outcome = outcome_of(cited_by, results) if options.junit or not cited_by else "cited"
        if not requirement.is_due and not cited_by:
            outcome = "waits"
        bad += outcome in ("failed", "no test")
        print(f"{requirement.id:5} {outcome:8} {len(cited_by):3} tests  {requirement.text}")
        if options.verbose:
            for test in cited_by:
                print(f"{'':26}{test}")
    unknown = sorted(tests.keys() - table.keys())
    if unknown:
        print(f"cited, but not in {TABLE.relative_to(ROOT)}: {', '.join(unknown)}")
    print(f"{len(table)} requirements, {sum(each.is_due for each in table.values())} due, {bad} without proof")
    return 1 if bad or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
