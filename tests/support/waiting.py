"""Wait for a named moment, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SHORTEST_PAUSE_SECONDS = 0.02


def pause_after(waited_seconds: float, probe_seconds: float) -> float:
    """Seconds until the next probe.

    A probe may start a program or make a request, and several test processes wait at a time: without pauses the probes
    would take the processors from what the tests wait for. So a probe has at most half of the time, and a wait that is
    long already ends a tenth of a second later.
    """
    return max(SHORTEST_PAUSE_SECONDS, min(waited_seconds / 10, 0.1), min(probe_seconds, 0.5))


def wait_until(
    probe: Callable[[], T], what: str, *, timeout_seconds: float = 30.0, interval_seconds: float | None = None
) -> T:
    """Call `probe` until it answers something true and return that; fail with `what` after the limit.

    Args:
        interval_seconds: between two probes, for a moment that is short; None = as `pause_after` says.
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        found = probe()
        if found:
            return found
        now = time.monotonic()
        if now - began > timeout_seconds:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}; last answer: {found!r}")
        time.sleep(pause_after(now - began, now - asked) if interval_seconds is None else interval_seconds)


def stays(probe: Callable[[], object], what: str, *, seconds: float, interval_seconds: float = 0.1) -> None:
    """Fail with `what` unless `probe` answers something true all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        assert found, f"not for all of {seconds:g} s: {what}; last answer: {found!r}"
        time.sleep(interval_seconds)


def wait_still(probe: Callable[[], T], what: str, *, seconds: float, timeout_seconds: float = 90.0) -> T:
    """Wait until `probe` has answered the same for so long, and return that; fail with `what` after the limit."""
    deadline = time.monotonic() + timeout_seconds
    found, since = probe(), time.monotonic()
    while time.monotonic() - since < seconds:
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {timeout_seconds:g} s for {seconds:g} s of stillness: {what}; last: {found!r}"
            )
        time.sleep(0.1)
        answer = probe()
        if answer != found:
            found, since = answer, time.monotonic()
    return found


async def wait_until_async(
    probe: Callable[[], Awaitable[T]],
    what: str,
    *,
    timeout_seconds: float = 30.0,
    interval_seconds: float | None = None,
) -> T:
    """Like `wait_until` for a coroutine function."""
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        found = await probe()
        if found:
            return found
        now = time.monotonic()
        if now - began > timeout_seconds:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}; last answer: {found!r}")
        await asyncio.sleep(pause_after(now - began, now - asked) if interval_seconds is None else interval_seconds)
