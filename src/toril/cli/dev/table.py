"""The output of local mode: on a terminal a table that is drawn in place, else a line for each change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from toril import clock
from toril.cli import output

LINE_INTERVAL_MS = 2000
"""Without a terminal a queue whose counts alone change gets at most one line in this time."""
WIDE_COLUMNS = 130
"""From this width on the reasons stand in the table; on a narrower terminal they stand below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One queue as it is now. Counts are jobs; None = the queue could not be read."""

    queue: str
    waiting: int | None
    """Waiting and prioritized."""
    active: int | None
    delayed: int | None
    completed: int | None
    failed: int | None
    ready: int
    wanted: int
    draining: int
    reason: str
    """The scaler's CamelCase word."""
    why: str
    """The same for people."""

    @property
    def replicas(self) -> str:
        """`2`, `0→3` on the way to another number, `2 (+1)` while one more finishes its last jobs."""
        text = str(self.ready) if self.ready == self.wanted else f"{self.ready}→{self.wanted}"
        return f"{text} (+{self.draining})" if self.draining else text


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bounded run is: `text` stands beside a bar of `done` of `total`."""

    done: int
    total: int
    text: str


class Display(Protocol):
    """An output of local mode."""

    def show(self, rows: Sequence[QueueRow], progress: Progress | None = None) -> None:
        """Show the queues as they are now."""

    def say(self, text: str) -> None:
        """Print one line that stays."""

    def close(self) -> None:
        """Keep the last picture and draw no more."""


def open_display() -> Display:
    """A live table when stdout is a terminal that can draw, else plain lines."""
    return LiveTable(Console()) if output.has_terminal(sys.stdout) else PlainLines()


class LiveTable:
    """Draws in place. Messages and changes of the wanted workers scroll above the table."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._wanted: dict[str, int] = {}
        self._live.start()

    def show(self, rows: Sequence[QueueRow], progress: Progress | None = None) -> None:
        for row in rows:
            before = self._wanted.get(row.queue, 0)
            if row.wanted != before:
                self._wanted[row.queue] = row.wanted
                self._console.print(Text(f"{row.queue}: {before} → {row.wanted} workers, {row.why}", style="cyan"))
        picture = build_picture(rows, progress, width=self._console.width, height=self._console.height)
        self._live.update(picture, refresh=True)

    def say(self, text: str) -> None:
        # Long lines are left to the terminal, so that a command can be copied whole.
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


class PlainLines:
    """One line for each change on stdout; messages go to stderr."""

    def __init__(self, clock_ms: Callable[[], int] = clock.monotonic_ms) -> None:
        self._clock_ms = clock_ms
        self._shown: dict[str, tuple[QueueRow, int]] = {}
        self._progress: tuple[Progress | None, int] = (None, 0)

    def show(self, rows: Sequence[QueueRow], progress: Progress | None = None) -> None:
        now_ms = self._clock_ms()
        for row in rows:
            before, since_ms = self._shown.get(row.queue, (None, 0))
            if before is None or is_worth_a_line(before, row, now_ms - since_ms):
                self._shown[row.queue] = (row, now_ms)
                output.data(line_of(row))
        said, since_ms = self._progress
        if progress is not None and progress != said and now_ms - since_ms >= LINE_INTERVAL_MS:
            self._progress = (progress, now_ms)
            output.data(f"{'':<13} {progress.text}")

    def say(self, text: str) -> None:
        output.note(text)

    def close(self) -> None:
        """Nothing to leave."""


def is_worth_a_line(before: QueueRow, now: QueueRow, age_ms: int) -> bool:
    """Whether `now` is worth a line after `before`, which was shown `age_ms` ago."""
    if before == now:
        return False
    shown = [(row.replicas, row.reason, row.failed, row.waiting is None) for row in (before, now)]
    return shown[0] != shown[1] or age_ms >= LINE_INTERVAL_MS


def line_of(row: QueueRow) -> str:
    counts = (
        f"{name} {'?' if count is None else count}"
        for name, count in (
            ("waiting", row.waiting),
            ("active", row.active),
            ("delayed", row.delayed),
            ("completed", row.completed),
            ("failed", row.failed),
        )
    )
    return f"{row.queue:<13} replicas {row.replicas:<6} {'  '.join(counts)}  {row.why}"


def build_picture(rows: Sequence[QueueRow], progress: Progress | None, *, width: int, height: int) -> Group:
    """The table, the reasons below it where they do not fit into it, and the bar of a bounded run."""
    is_wide = width >= WIDE_COLUMNS
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("queue", style="bold", no_wrap=True, overflow="ellipsis")
    for name in ("waiting", "active", "delayed", "completed", "failed"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("replicas", no_wrap=True, min_width=len("replicas"))
    table.add_column("why", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            row.queue,
            _count(row.waiting, "yellow"),
            _count(row.active, "cyan"),
            _count(row.delayed, "magenta"),
            _count(row.completed, "green"),
            _count(row.failed, "red"),
            Text(row.replicas, style="bold cyan" if row.ready != row.wanted else ""),
            Text(row.why if is_wide else row.reason, style="dim"),
        )
    parts: list[RenderableType] = [Text(), table]
    if not is_wide and 2 * len(rows) + 6 <= height:
        parts += [Text(), *(_below(row) for row in rows)]
    if progress is not None:
        bar = Table.grid(padding=(0, 1))
        drawn = ProgressBar(total=max(progress.total, 1), completed=progress.done, width=min(30, width // 3))
        bar.add_row(drawn, Text(progress.text, no_wrap=True, overflow="ellipsis"))
        parts += [Text(), bar]
    return Group(*parts)


def _below(row: QueueRow) -> Text:
    return Text(f"{row.queue}: {row.why}", style="dim", no_wrap=True, overflow="ellipsis")


def _count(count: int | None, style: str) -> Text:
    return Text("?", style="bold red") if count is None else Text(str(count), style=style if count else "dim")
