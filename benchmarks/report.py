"""Puts findings into words, and into the marked part of docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from benchmarks.measures import Row
from support.redis_server import find_server

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: made by `make bench` -->", "<!-- end: made by `make bench` -->"
HEADER = ("measure", "BullMQ 6", "Toril", "ratio", "goal", "reached")


@dataclass
class Findings:
    """All that was measured in one go."""

    machine: str
    rows: list[Row] = field(default_factory=list)


def describe_machine() -> str:
    """The kind of machine and the versions, for a reader who compares."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    version = next(word.partition("=")[2] for word in server.split() if word.startswith("v="))
    lock = json.loads((ROOT / "tests" / "peers" / "package-lock.json").read_text())
    bullmq = lock["packages"]["node_modules/bullmq"]["version"]
    loop = f"uvloop {metadata.version('uvloop')}" if util.find_spec("uvloop") else "asyncio's own event loop"
    return (
        f"{len(os.sched_getaffinity(0))} CPUs ({platform.machine()}, {platform.system()}), Redis {version}, Python "
        f"{platform.python_version()} with {loop} and hiredis {metadata.version('hiredis')}, Node {node.lstrip('v')}, "
        f"bullmq {bullmq}"
    )


def in_words(row: Row) -> str:
    """One row as a line for the terminal."""
    _, theirs, ours, ratio, goal, reached = _cells(row)
    parts = [f"{row.what}: {ours}"]
    if row.theirs:
        parts.append(f"BullMQ {theirs}, ratio {ratio}")
    if row.goal:
        parts.append(f"goal {goal}: {reached}")
    return "; ".join(parts)


def table(rows: Sequence[Row]) -> str:
    """The Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(found: Findings) -> Path:
    """Replace the marked part of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = (
        f"{BEGIN}\n\nMeasured on {found.machine}. Medians of the runs (lowest–highest).\n\n{table(found.rows)}\n\n{END}"
    )
    PAGE.write_text(before + text + after)
    return PAGE.relative_to(ROOT)


def _cells(row: Row) -> tuple[str, ...]:
    theirs = f"{_spread(row.theirs, row.digits)} {row.unit}" if row.theirs else ""
    ours = f"{_spread(row.ours, row.digits)} {row.unit}"
    ratios = [one / other for one, other in zip(row.ours, row.theirs, strict=True)] if row.theirs else []
    decisive = statistics.median(ratios or row.ours)
    goal = f"{row.goal}{'×' if ratios else f' {row.unit}'}" if row.goal else ""
    reached = ("yes" if row.goal.is_reached(decisive) else "**no**") if row.goal else ""
    return row.what, theirs, ours, f"{_spread(ratios, 2)}×" if ratios else "", goal, reached


def _spread(values: Sequence[float], digits: int) -> str:
    def shown(value: float) -> str:
        return f"{value:,.{digits}f}"

    middle = shown(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))}–{shown(max(values))})"
