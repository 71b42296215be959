"""tools/compatibility.toml has an item for every number that a test cites, and its page is written as it should be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import citations, documents
from tools import compatibility

ITEMS = compatibility.read_items(compatibility.ITEMS.read_text())


@pytest.mark.parametrize("path", citations.TEST_FILES, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_cited_items_exist(path: Path) -> None:
    assert citations.unknown(path, "wire", ITEMS) == []


def test_every_item_is_shown_by_a_test_or_says_why_not() -> None:
    cited = {number for path in citations.TEST_FILES for _, number in citations.citations(path.read_text(), "wire")}
    assert [item.number for item in ITEMS.values() if item.number not in cited and not item.reasons] == []


def test_the_page_has_the_items_as_they_are() -> None:
    """`make compatibility` writes it anew."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| .* \| (.+) \|$", compatibility.PAGE.read_text(), re.MULTILINE)
    assert rows == [(str(item.number), item.what, compatibility.WAYS[item.way]) for item in ITEMS.values()]


def test_there_are_a_hundred_items() -> None:
    assert list(ITEMS) == list(range(1, 101))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[groups.a]\n1 = ["?", "x"]\n[reasons.both]\n', "item 1: '\\?' is none of"),
        ('[groups.a]\n1 = ["→", "x"]\n[reasons.both]\n2 = "y"\n[reasons.5]\n[reasons.6]\n', "do not exist: 2"),
    ],
)
def test_wrong_items_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compatibility.read_items(text)


def test_a_test_counts_for_the_versions_that_it_runs_with() -> None:
    assert compatibility.versions_of("t.py::test[bullmq5-None]") == ("5",)
    assert compatibility.versions_of("t.py::test[x-bullmq6]") == ("6",)
    assert compatibility.versions_of("t.py::test_bullmq5") == ("5", "6")


def test_a_page_tells_each_items_result_with_each_version() -> None:
    text = """
        [groups.One]
        1 = ["→", "first"]
        2 = ["↔", "second"]
        [groups.Two]
        3 = ["←", "third"]
        [reasons.both]
        [reasons.5]
        2 = "only from 6 on"
        [reasons.6]
    """
    items = compatibility.read_items(text)
    tests = {1: ["t.py::a[bullmq5]", "t.py::a[bullmq6]", "t.py::b"], 2: ["t.py::c[bullmq6]"]}
    ran = {("t", "a[bullmq5]"): "passed", ("t", "a[bullmq6]"): "failed", ("t", "b"): "passed"}
    results = compatibility.results_of(items.values(), tests, {**ran, ("t", "c[bullmq6]"): "passed"})
    page = compatibility.render(items, results, {"5": "5.1.2", "6": "6.0.1"})
    _, _, table = page.partition("## One")
    assert (
        table
        == """

| | what | bullmq 5.1.2 | bullmq 6.0.1 | way |
|---|---|---|---|---|
| 1 | first | yes | failed | we write, they act |
| 2 | second | not shown (see below) | yes | both ways |

## Two

| | what | bullmq 5.1.2 | bullmq 6.0.1 | way |
|---|---|---|---|---|
| 3 | third | not shown | not shown | they write, we act |

## Not shown, and why

- 2, with BullMQ 5: only from 6 on
"""
    )


def test_the_versions_are_those_that_are_installed() -> None:
    package = '{"dependencies": {"bullmq": "6.7.0", "bullmq5": "npm:bullmq@5.81.5", "express": "5.0.0"}}'
    assert compatibility.peer_versions(package) == {"6": "6.7.0", "5": "5.81.5"}
