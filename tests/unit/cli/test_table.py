"""What local mode shows: the table at several widths, and lines where there is no terminal."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from toril.cli.dev import table
from toril.cli.dev.table import PlainLines, Progress, QueueRow

WHY = "184 jobs / 5 per worker = 37; limited to maxReplicas 4"
ROW = QueueRow(
    queue="page-save", waiting=164, active=20, delayed=16, completed=3, failed=0, ready=1, wanted=4, draining=0,
    reason="MaxReplicas", why=WHY,
)  # fmt: skip


def drawn(width: int, height: int = 24, row: QueueRow = ROW) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(table.build_picture([row], Progress(3, 300, "3 of 300"), width=width, height=height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("ready", "wanted", "draining", "text"),
    [(2, 2, 0, "2"), (0, 3, 0, "0→3"), (2, 2, 1, "2 (+1)"), (0, 0, 0, "0")],
)
def test_replicas(ready: int, wanted: int, draining: int, text: str) -> None:
    assert dataclasses.replace(ROW, ready=ready, wanted=wanted, draining=draining).replicas == text


def test_a_wide_terminal_has_the_reason_in_the_table() -> None:
    head, row, progress = drawn(140)
    assert head.split() == ["queue", "waiting", "active", "delayed", "completed", "failed", "replicas", "why"]
    assert row.split()[:7] == ["page-save", "164", "20", "16", "3", "0", "1→4"]
    assert row.endswith(WHY)
    assert progress.endswith("3 of 300")


def test_a_narrow_terminal_has_one_word_in_the_table_and_the_reason_below() -> None:
    head, row, below, _ = drawn(80)
    assert head.split()[:2] == ["queue", "waiting"]
    assert row.endswith("MaxReplicas")
    assert below == f"page-save: {WHY}"


def test_a_low_terminal_leaves_the_reasons_out() -> None:
    assert len(drawn(80, height=7)) == 3


def test_unknown_is_not_zero() -> None:
    unknown = dataclasses.replace(ROW, waiting=None, active=None)
    assert drawn(140, row=unknown)[1].split()[:4] == ["page-save", "?", "?", "16"]
    assert "waiting ?  active ?" in table.line_of(unknown)


def test_lines_come_at_once_for_scaling_and_at_most_every_two_seconds_for_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_ms = 0
    lines = PlainLines(lambda: now_ms)

    def shown(**changes: Any) -> int:
        lines.show([dataclasses.replace(ROW, **changes)])
        return len(capsys.readouterr().out.splitlines())

    assert shown() == 1
    assert shown() == 0
    assert shown(waiting=1) == 0
    assert shown(waiting=1, ready=4) == 1
    assert shown(waiting=0, ready=4, failed=1) == 1
    now_ms = table.LINE_INTERVAL_MS
    assert shown(waiting=0, ready=4, failed=1) == 0
    assert shown(waiting=2, ready=4, failed=1) == 1
