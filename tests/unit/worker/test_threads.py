"""Threads of a worker: on a machine that gives no more of them, and what they cost."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import NoReturn

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


Ends = list[tuple[int, int, BaseException | None]]


def new_threads(size: int) -> tuple[Threads[int], Ends]:
    ended: Ends = []
    return Threads(asyncio.get_running_loop(), size, lambda *end: ended.append(end)), ended


async def wait_for(ended: Ends, count: int) -> None:
    async def are_there() -> bool:
        return len(ended) == count

    await wait_until_async(are_there, f"{count} ends")


async def test_those_that_are_there_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, ended = new_threads(4)
    allow(monkeypatch, 1)
    gate = threading.Event()
    for number in range(4):
        threads.submit(number, calling(gate, number))
    threads.begin()
    gate.set()
    await wait_for(ended, 4)
    assert sorted(ended) == [(number, number * 2, None) for number in range(4)]
    threads.close()


async def test_without_any_the_call_is_refused_and_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, ended = new_threads(4)
    with monkeypatch.context() as patched:
        allow(patched, 0)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(1, lambda: 1)
    threads.submit(2, lambda: 2)
    threads.begin()
    await wait_for(ended, 1)
    assert ended == [(2, 2, None)]
    threads.close()


async def test_what_counted_on_a_thread_that_cannot_be_had_wakes_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, ended = new_threads(4)
    monkeypatch.setattr("toril.worker.threads.QUICK_SECONDS", 0)
    threads.submit(1, lambda: 1)
    threads.begin()
    await wait_for(ended, 1)
    wait_until(lambda: threads._idle == 1, "an idle thread")

    def refuse(thread: threading.Thread) -> None:
        # Just now the other one has nothing to do any more, and something new comes, which counts on this one.
        threads._idle = 1
        threads.submit(2, lambda: 2)
        threads.begin()
        raise RuntimeError("can't start new thread")

    threads._idle = 0
    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads._wake_another()
    await wait_for(ended, 2)
    threads.close()


async def test_calls_that_wait_run_side_by_side() -> None:
    threads, ended = new_threads(8)
    for start in (0, 8):
        all_run = threading.Barrier(8)
        for number in range(start, start + 8):
            threads.submit(number, functools.partial(all_run.wait, 30))
        threads.begin()
        await wait_for(ended, start + 8)
    assert all(problem is None for _, _, problem in ended)
    threads.close()


async def test_of_more_than_there_are_threads_all_are_run() -> None:
    threads, ended = new_threads(2)
    gate = threading.Event()
    for number in range(20):
        threads.submit(number, calling(gate, number))
        threads.begin()
    gate.set()
    await wait_for(ended, 20)
    threads.close()


async def test_quick_calls_have_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toril.worker.threads.QUICK_SECONDS", 10)
    wakes = counted_wakes(monkeypatch)
    threads, ended = new_threads(50)
    for number in range(50):
        threads.submit(number, lambda: 1)
    threads.begin()
    assert len(ended) == 50
    assert not wakes
    threads.close()


async def test_calls_that_end_together_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = counted_wakes(monkeypatch)
    threads, ended = new_threads(1)
    gate = threading.Event()
    threads.submit(-1, calling(gate, -1))
    threads.begin()
    for number in range(50):
        threads.submit(number, lambda: 1)
    # Those before were not quick, so that these are not waited for.
    threads.begin()
    gate.set()
    # Meanwhile the loop does not come round.
    wait_until(lambda: len(threads._ended) == 51, "all calls to end")
    await wait_for(ended, 51)
    assert len(wakes) == 1
    threads.close()


async def test_whatever_is_raised_is_told() -> None:
    threads, ended = new_threads(1)
    problems: list[BaseException] = [ValueError("no"), SystemExit(1), KeyboardInterrupt()]
    for number, problem in enumerate(problems):
        threads.submit(number, functools.partial(raising, problem))
    threads.begin()
    await wait_for(ended, 3)
    assert [problem for _, _, problem in ended] == problems
    threads.close()


def of_jobs() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "toril-job"}


async def test_after_the_end_no_thread_is_left_and_nothing_more_begins() -> None:
    before, gate, begun = of_jobs(), threading.Event(), list[int]()

    def call(number: int) -> None:
        begun.append(number)
        gate.wait(10)

    threads, _ = new_threads(2)
    for number in range(6):
        threads.submit(number, functools.partial(call, number))
    threads.begin()
    wait_until(lambda: len(begun) == 2, "two calls to run")
    threads.close()
    gate.set()
    wait_until(lambda: of_jobs() <= before, "all threads to end")
    assert sorted(begun) == [0, 1]


async def test_a_thread_that_comes_after_the_end_ends_too() -> None:
    """One that is busy may have begun to start it just before."""
    before = of_jobs()
    threads, _ = new_threads(2)
    threads.close()
    threads._start_thread(is_awake=True)
    threads._start_thread(is_awake=False)
    wait_until(lambda: of_jobs() <= before, "all threads to end")


def counted_wakes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What wakes the loop from a thread, from now on."""
    loop, wakes = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe

    def count_and_wake(callback: Callable[[], object]) -> object:
        wakes.append(callback)
        return wake(callback)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count_and_wake)
    return wakes


def calling(gate: threading.Event, number: int) -> Callable[[], int]:
    def call() -> int:
        gate.wait(10)
        return number * 2

    return call


def raising(problem: BaseException) -> NoReturn:
    raise problem
