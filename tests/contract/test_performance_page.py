"""docs/performance.md has a table made by `make bench`, with every measure and every goal that there is."""

from __future__ import annotations

import re

import pytest

from benchmarks import measures, report
from benchmarks.measures import Goal, Row

PAGE = report.PAGE.read_text()


def made() -> list[list[str]]:
    """The cells of the table's rows."""
    part = PAGE.partition(report.BEGIN)[2].partition(report.END)[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    assert lines[0] == f"| {' | '.join(report.HEADER)} |"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_is_between_its_marks() -> None:
    assert PAGE.count(report.BEGIN) == PAGE.count(report.END) == 1
    assert made()
    assert re.search(r"Measured on \d+ CPUs .*Redis \d.*bullmq 6\.", PAGE)


@pytest.mark.parametrize(
    "wanted",
    [
        ("bulk add", "≥ 5×"),
        ("single awaited add, async", "≥ 1.3×"),
        ("single awaited add, sync", "≥ 1.3×"),
        ("no-op processing, concurrency 100, `async`", "≥ 3×"),
        ("no-op processing, concurrency 100, `def`", "≥ 3×"),
        ("no-op processing, concurrency 10, `async`", "≥ 2×"),
        ("no-op processing, concurrency 10, `def`", "≥ 2×"),
        ("no-op processing, concurrency 1, `async`", "≥ 1.2×"),
        ("no-op processing, concurrency 1, `def`", "≥ 1.2×"),
        ("no-op processing, concurrency 100, AOF everysec, `async`", "≥ 2.5×"),
        ("no-op processing, concurrency 100, AOF everysec, `def`", "≥ 2.5×"),
        ("pick-up latency, p50, `async`", "≤ 1×"),
        ("pick-up latency, p99, `async`", "≤ 1×"),
        ("Redis CPU per job, concurrency 100, `async`", "≤ 0.4×"),
        ("memory per waiting job", "≤ 1×"),
        ("cost of adding with 1,000,000 waiting jobs", "≤ 1.2 ×"),
        ("cost of taking with 1,000,000 delayed jobs", "≤ 1.2 ×"),
        ("cost of finishing with 1,000,000 completed jobs", "≤ 1.2 ×"),
        ("busy slots, handlers of 5 ms, concurrency 100, `async`", "≥ 95 %"),
    ],
    ids=lambda wanted: wanted[0],
)
def test_every_goal_is_in_it(wanted: tuple[str, str]) -> None:
    what, goal = wanted
    (row,) = [row for row in made() if row[0].startswith(what)]
    assert row[4] == goal
    assert row[5] in ("yes", "**no**")


def test_a_row_is_judged_by_the_ratios_of_each_run() -> None:
    row = Row("x", "jobs/s", ours=[30, 10, 40], theirs=[10, 10, 10], goal=Goal(3))
    cells = report.table([row]).splitlines()[2]
    assert cells == "| x | 10 (10–10) jobs/s | 30 (10–40) jobs/s | 3.00 (1.00–4.00)× | ≥ 3× | yes |"


def test_a_row_without_a_peer_is_judged_by_itself() -> None:
    row = Row("x", "%", ours=[90.0], goal=Goal(95), digits=1)
    assert report.table([row]).splitlines()[2] == "| x |  | 90.0 % |  | ≥ 95 % | **no** |"


def test_every_measure_has_a_name_for_the_command_line() -> None:
    assert set(measures.ALL) == {
        "bulk", "single", "no-op-100", "no-op-10", "no-op-1", "no-op-100-aof", "latency", "busy", "sizes"
    }  # fmt: skip
