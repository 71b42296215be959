"""Repeats the work of a periodic part. A part has a `run_once` for one turn, and a loop that calls `repeat`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses of a periodic part, in seconds. A pause begins when a turn has ended."""

    interval_seconds: float
    """After a turn that succeeded."""
    retry_seconds: float | None = None
    """After a turn that failed; None = `interval_seconds`."""
    first_seconds: float = 0.0
    """Before the first turn; 0 = the first turn begins at once."""

    def after(self, *, has_failed: bool) -> float:
        """The pause after a turn, in seconds."""
        if has_failed and self.retry_seconds is not None:
            return self.retry_seconds
        return self.interval_seconds


async def repeat(
    pace: Pace,
    run_once: Callable[[], Awaitable[object]],
    *,
    expected: type[E] | tuple[()] = (),
    on_failure: Callable[[E], object] | None = None,
    wake: asyncio.Event | None = None,
) -> NoReturn:
    """Call `run_once` again and again until the task is cancelled.

    Args:
        expected: a turn that raises this has failed, and the next turn follows. () = no error is expected.
        on_failure: gets the expected error. None = `run_once` has reported it, or no report is needed.
        wake: ends a pause when it is set. It is cleared when a turn begins, so that a call during the turn counts.

    Raises:
        Exception: an error of `run_once` that is not expected. The loop has ended.
    """
    if pace.first_seconds:
        await _pause(pace.first_seconds, wake)
    while True:
        if wake is not None:
            wake.clear()
        has_failed = False
        try:
            await run_once()
        except expected as problem:
            has_failed = True
            if on_failure is not None:
                on_failure(problem)
        await _pause(pace.after(has_failed=has_failed), wake)


async def _pause(seconds: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
