from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from support.waiting import wait_until_async
from toril_operator.work_queue import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, WorkQueue


@asynccontextmanager
async def working(
    queue: WorkQueue[str], process: Callable[[str], Awaitable[None]], workers: int = 3
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.process_loop(process)) for _ in range(workers)]
    yield
    queue.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def done(probe: Callable[[], bool], what: str) -> None:
    async def ask() -> bool:
        return probe()

    await wait_until_async(ask, what)


async def test_a_key_added_many_times_is_processed_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    seen: list[str] = []

    async def process(key: str) -> None:
        seen.append(key)

    for _ in range(5):
        queue.add("a")
    queue.add("b")
    assert len(queue) == 2
    async with working(queue, process):
        await done(lambda: len(seen) == 2, "both keys")
        await queue.wait_idle()
    assert seen == ["a", "b"]


async def test_a_key_is_never_with_two_and_a_change_meanwhile_is_not_lost() -> None:
    queue: WorkQueue[str] = WorkQueue()
    going, most, turns = 0, 0, 0
    release = asyncio.Event()

    async def process(key: str) -> None:
        nonlocal going, most, turns
        going, turns = going + 1, turns + 1
        most = max(most, going)
        await release.wait()
        going -= 1

    queue.add("a")
    async with working(queue, process):
        await done(lambda: going == 1, "the first turn")
        for _ in range(3):
            queue.add("a")
        assert len(queue) == 0
        release.set()
        await done(lambda: turns == 2, "one more turn")
        await queue.wait_idle()
    assert (most, turns) == (1, 2)


async def test_pauses_after_failures_grow_and_are_bounded() -> None:
    queue: WorkQueue[str] = WorkQueue()
    pauses = [queue.add_failed("a") for _ in range(12)]
    for number, pause in enumerate(pauses):
        exact = min(FIRST_PAUSE_SECONDS * 2**number, LONGEST_PAUSE_SECONDS)
        assert exact <= pause <= exact * 1.2
    queue.forget_failures("a")
    assert queue.add_failed("a") <= FIRST_PAUSE_SECONDS * 1.2
    queue.close()


async def test_the_earlier_of_two_times_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_later("a", 60)
    queue.add_later("a", 0.01)
    queue.add_later("a", 60)
    await done(lambda: len(queue) == 1, "the key, early")
    queue.add_later("b", 60)
    queue.add("b")
    assert len(queue) == 2
    queue.close()
    assert len(queue) == 0
