"""Threads of a worker: on a machine that gives no more of them, and what they cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from support.waiting import wait_until, wait_until_async
from toril.worker.threads import Threads


def allow(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As with a limit on processes: only so many threads can be started."""
    start, left = threading.Thread.start, iter(range(count))

    def start_or_refuse(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)


async def test_those_that_are_there_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int, BaseException | None]] = []
    threads: Threads[int] = Threads(asyncio.get_running_loop(), 4, lambda *end: ended.append(end))
    allow(monkeypatch, 1)
    gate = threading.Event()
    for number in range(4):
        threads.submit(number, calling(gate, number))
    gate.set()

    async def all_ended() -> bool:
        return len(ended) == 4

    await wait_until_async(all_ended, "all four")
    assert sorted(ended) == [(number, number * 2, None) for number in range(4)]
    threads.close()


async def test_without_any_the_call_is_refused_and_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int, BaseException | None]] = []
    threads: Threads[int] = Threads(asyncio.get_running_loop(), 4, lambda *end: ended.append(end))
    with monkeypatch.context() as patched:
        allow(patched, 0)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(1, lambda: 1)
    threads.submit(2, lambda: 2)

    async def any_ended() -> bool:
        return bool(ended)

    await wait_until_async(any_ended, "the second call")
    assert ended == [(2, 2, None)]
    threads.close()


async def test_calls_that_end_together_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakes: list[object] = []
    ended: list[object] = []
    wake = loop.call_soon_threadsafe

    def count_and_wake(callback: Callable[[], object]) -> object:
        wakes.append(callback)
        return wake(callback)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count_and_wake)
    threads: Threads[int] = Threads(loop, 1, lambda *end: ended.append(end))
    for number in range(50):
        threads.submit(number, lambda: None)
    # Meanwhile the loop does not come round.
    wait_until(lambda: len(threads._ended) == 50, "all calls to end")

    async def all_told() -> bool:
        return len(ended) == 50

    await wait_until_async(all_told, "all to be told")
    assert len(wakes) == 1
    threads.close()


def calling(gate: threading.Event, number: int) -> Callable[[], int]:
    def call() -> int:
        gate.wait(10)
        return number * 2

    return call
