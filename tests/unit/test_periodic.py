"""The loop of periodic parts: its pauses, what ends it, and what wakes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from toril import errors, periodic
from toril.periodic import Pace

LONG_SECONDS = 3600.0
"""A pause that would outlast the test: only a wake-up ends it."""


class Turns:
    """A `run_once` that fails as it is ordered, and the moments of its turns."""

    def __init__(self, *ends: Exception | None) -> None:
        self._ends = list(ends)
        self.begun = 0
        self.used_up = asyncio.Event()

    async def run_once(self) -> None:
        self.begun += 1
        end = self._ends.pop(0) if self._ends else None
        if not self._ends:
            self.used_up.set()
        if end is not None:
            raise end


async def run_until(loop: Awaitable[object], moment: asyncio.Event) -> None:
    """Run a loop until the event is set; then cancel the loop. Raises what ended the loop before."""
    task = asyncio.ensure_future(loop)
    waiting = asyncio.ensure_future(moment.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that `periodic` makes, in seconds. Each ends at once."""
    seen: list[float] = []
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def note(seconds: float) -> None:
        seen.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return seen


async def test_the_first_turn_begins_at_once_and_turns_follow_after_the_interval(pauses: list[float]) -> None:
    turns = Turns(None, None, None)
    await run_until(periodic.repeat(Pace(7.0), turns.run_once), turns.used_up)
    assert pauses[:2] == [7.0, 7.0]


async def test_a_part_may_pause_before_its_first_turn(pauses: list[float]) -> None:
    turns = Turns(None, None)
    await run_until(periodic.repeat(Pace(7.0, first_seconds=3.0), turns.run_once), turns.used_up)
    assert pauses[:2] == [3.0, 7.0]


async def test_an_expected_failure_is_reported_and_the_next_turn_follows_sooner(pauses: list[float]) -> None:
    failure = errors.RedisUnavailableError(errors.RedisReason.TIMEOUT, "away")
    turns, reported = Turns(failure, None, None), list[errors.RedisError]()
    loop = periodic.repeat(
        Pace(7.0, retry_seconds=1.0), turns.run_once, expected=errors.RedisError, on_failure=reported.append
    )
    await run_until(loop, turns.used_up)
    assert (reported, pauses[:2]) == ([failure], [1.0, 7.0])


async def test_without_a_pause_of_its_own_a_failure_is_followed_by_the_interval(pauses: list[float]) -> None:
    turns = Turns(errors.RedisUnavailableError(errors.RedisReason.TIMEOUT, "away"), None)
    await run_until(periodic.repeat(Pace(7.0), turns.run_once, expected=errors.RedisError), turns.used_up)
    assert pauses[:1] == [7.0]


async def test_an_error_that_is_not_expected_ends_the_loop() -> None:
    turns = Turns(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await periodic.repeat(Pace(LONG_SECONDS), turns.run_once, expected=errors.RedisError)
    assert turns.begun == 1


async def test_a_wake_up_ends_a_pause_and_one_during_a_turn_counts() -> None:
    wake, third = asyncio.Event(), asyncio.Event()
    begun = 0

    async def run_once() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            wake.set()
        elif begun == 2:
            asyncio.get_running_loop().call_soon(wake.set)
        else:
            third.set()

    await run_until(periodic.repeat(Pace(LONG_SECONDS), run_once, wake=wake), third)
    assert begun == 3


async def test_a_pause_that_a_wake_up_could_end_is_over_by_itself() -> None:
    turns = Turns(None, None)
    await run_until(periodic.repeat(Pace(0.001), turns.run_once, wake=asyncio.Event()), turns.used_up)
    assert turns.begun == 2
