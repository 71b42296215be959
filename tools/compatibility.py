"""Write docs/bullmq-compatibility.md: what works with which version of BullMQ, from the results of a test run.

Items are those of tools/compatibility.toml; tests cite them (`@pytest.mark.wire(65)`), and run with BullMQ 5 and 6 by
parameters named `bullmq5` and `bullmq6`. A test without such a parameter counts for both versions.

Usage: .venv/bin/python -m tools.compatibility REPORT.xml … [--verbose]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import requirements

ITEMS = requirements.ROOT / "tools" / "compatibility.toml"
PAGE = requirements.ROOT / "docs" / "bullmq-compatibility.md"
PEERS = requirements.ROOT / "tests" / "peers" / "package.json"
VERSIONS = ("5", "6")
WAYS = {
    "→": "we write, they act",
    "←": "they write, we act",
    "↔": "both ways",
    "·": "ours alone",
}
HEAD = """\
# What works with which BullMQ

Made by `make compatibility` from the results of tests in which real BullMQ packages from npm work on one queue with
Toril. What the rows mean stands in `tools/compatibility.toml`; each is shown by tests that cite its number, and

```sh
.venv/bin/python -m tools.compatibility build/compatibility.xml --verbose
```

names them. "We write" means that Toril adds, changes or ends the job, "they act" that BullMQ's workers, getters or
event listeners do the rest.
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the list."""

    number: int
    group: str
    way: str
    what: str
    reasons: Mapping[str, str]
    """Version → why the item is not shown with it."""


def read_items(text: str) -> dict[int, Item]:
    """The items by number. Raises ValueError for a way that does not exist or a reason without its item."""
    document = tomllib.loads(text)
    reasons = document["reasons"]
    found: dict[int, Item] = {}
    for group, items in document["groups"].items():
        for number, (way, what) in items.items():
            if way not in WAYS:
                raise ValueError(f"item {number}: {way!r} is none of {' '.join(WAYS)}")
            why = {
                version: reasons[scope][number]
                for scope in ("both", *VERSIONS)
                for version in VERSIONS
                if scope in ("both", version) and number in reasons[scope]
            }
            found[int(number)] = Item(int(number), group, way, what, why)
    unknown = {number for given in reasons.values() for number in given} - {str(number) for number in found}
    if unknown:
        raise ValueError(f"reasons for items that do not exist: {', '.join(sorted(unknown))}")
    return found


def versions_of(test_id: str) -> tuple[str, ...]:
    """Which versions a test runs with, by its parameters."""
    _, _, parameters = test_id.partition("[")
    named = tuple(version for version in VERSIONS if re.search(rf"\bbullmq{version}\b", parameters))
    return named or VERSIONS


def results_of(
    items: Iterable[Item], tests: Mapping[int, Iterable[str]], results: Mapping[tuple[str, str], str]
) -> dict[tuple[int, str], str]:
    """(item, version) → one word for its tests: the worst of theirs."""
    return {
        (item.number, version): requirements.outcome_of(
            [test for test in tests.get(item.number, ()) if version in versions_of(test)], results
        )
        for item in items
        for version in VERSIONS
    }


def peer_versions(package: str) -> dict[str, str]:
    """Major version → the exact one that the tests install."""
    found = [spec.rpartition("@")[2] for name, spec in json.loads(package)["dependencies"].items() if "bullmq" in name]
    return {version.partition(".")[0]: version for version in found if version.partition(".")[0] in VERSIONS}


def render(items: Mapping[int, Item], results: Mapping[tuple[int, str], str], peers: Mapping[str, str]) -> str:
    """The page."""
    lines = [HEAD]
    shown = {version: sum(results[number, version] == "passed" for number in items) for version in VERSIONS}
    lines.append(
        f"Shown: {shown['5']} of {len(items)} with BullMQ {peers['5']}, "
        f"{shown['6']} of {len(items)} with BullMQ {peers['6']}.\n"
    )
    group = ""
    for item in items.values():
        if item.group != group:
            group = item.group
            lines.append(f"{'' if lines[-1].endswith(chr(10)) else chr(10)}## {group}\n")
            lines.append(f"| | what | bullmq {peers['5']} | bullmq {peers['6']} | way |")
            lines.append("|---|---|---|---|---|")
        five, six = (_cell(item, version, results[item.number, version]) for version in VERSIONS)
        lines.append(f"| {item.number} | {item.what} | {five} | {six} | {WAYS[item.way]} |")
    if notes := _notes(items.values()):
        lines += ["\n## Not shown, and why\n", *notes]
    return "\n".join(lines) + "\n"


def _cell(item: Item, version: str, outcome: str) -> str:
    word = {"passed": "yes", "no test": "not shown"}.get(outcome, outcome)
    return f"{word} (see below)" if version in item.reasons else word


def _notes(items: Iterable[Item]) -> list[str]:
    notes = []
    for item in items:
        for why in dict.fromkeys(item.reasons.values()):
            versions = " and ".join(version for version in VERSIONS if item.reasons.get(version) == why)
            notes.append(f"- {item.number}, with BullMQ {versions}: {why}")
    return notes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="JUnit reports of test runs")
    parser.add_argument("--verbose", action="store_true", help="name the tests of each item, and write nothing")
    options = parser.parse_args()
    items, peers = read_items(ITEMS.read_text()), peer_versions(PEERS.read_text())
    tests = requirements.collect_tests("wire")
    outcomes = requirements.read_results(options.reports)
    results = results_of(items.values(), tests, outcomes)
    if options.verbose:
        for item in items.values():
            print(f"{item.number:3} {item.what}")
            for test in sorted(tests.get(item.number, ())):
                print(f"    {requirements.outcome_of([test], outcomes):8} {test}")
    else:
        PAGE.write_text(render(items, results, peers))
    bad = [
        f"{number} with BullMQ {version}: {results[number, version]}"
        for number, item in items.items()
        for version in VERSIONS
        if results[number, version] != "passed" and version not in item.reasons
    ]
    print("\n".join(bad) or f"all {len(items)} items are shown, or say why not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
