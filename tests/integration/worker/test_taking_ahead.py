"""Jobs that a worker takes before it has slots for them."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Queue
from toril.engine.worker import Limiter
from toril.tasks.task import AsyncTask
from toril.worker import prefetch

SLOTS = 4
AHEAD = SLOTS // 2


@pytest.fixture(autouse=True)
def any_run_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a function runs in a test is not certain."""
    monkeypatch.setattr(prefetch, "SHORTEST_SECONDS", 1e-9)
    monkeypatch.setattr(prefetch, "LONGEST_SECONDS", 1e9)
    monkeypatch.setattr(prefetch, "CALL_SECONDS", 1e9)


def given_back(stored: EngineQueue) -> list[str]:
    return [
        event["jobId"] for event in stored.events() if event["event"] == "waiting" and event.get("prev") == "active"
    ]


def holding(tasks: Queue, go: asyncio.Event) -> AsyncTask[[bool], None]:
    """A task whose first job is short; the others last until `go`."""

    @tasks.task
    async def hold(is_first: bool) -> None:
        await (asyncio.sleep(0.001) if is_first else go.wait())

    return hold


async def test_they_start_when_a_slot_is_free_and_no_more_run_than_there_are_slots(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    running = most = 0

    @tasks.task
    async def step() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1

    handles = await tasks.add_bulk([step.draft() for _ in range(200)])
    async with worker(tasks, concurrency=SLOTS):
        for handle in handles:
            await handle.result(30)
    assert most == SLOTS
    assert {stored.hash(handle.id)["atm"] for handle in handles} == {"1"}


async def test_what_gets_no_slot_soon_is_given_back(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    go = asyncio.Event()
    started: list[int] = []

    @tasks.task
    async def hold(number: int) -> None:
        started.append(number)
        await (asyncio.sleep(0.001) if number < 0 else go.wait())

    # First a short one.
    handles = await tasks.add_bulk([hold.draft(number) for number in range(-1, 10)])
    async with worker(tasks, concurrency=SLOTS):

        async def are_back() -> bool:
            return len(given_back(stored)) >= AHEAD and stored.raw.llen(stored.keys.wait) == 10 - SLOTS

        await wait_until_async(are_back, "what was taken ahead to be given back")
        assert stored.raw.llen(stored.keys.active) == SLOTS
        go.set()
        for handle in handles:
            await handle.result(30)
    assert sorted(started) == list(range(-1, 10))
    assert {stored.hash(handle.id)["atm"] for handle in handles} == {"1"}
    # For a BullMQ worker with `maxStartedAttempts`.
    assert {stored.hash(handle.id)["ats"] for handle in handles} == {"1"}


async def test_a_drain_runs_or_gives_back_what_was_taken_ahead(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    go = asyncio.Event()
    hold = holding(tasks, go)
    await tasks.add_bulk([hold.draft(number == 0) for number in range(11)])
    async with worker(tasks, concurrency=SLOTS) as drained:

        async def are_ahead() -> bool:
            return stored.raw.llen(stored.keys.active) == SLOTS + AHEAD or bool(given_back(stored))

        await wait_until_async(are_ahead, "jobs taken ahead")
        drained.stop()
        go.set()
    assert stored.raw.llen(stored.keys.active) == 0
    assert stored.raw.zcard(stored.keys.completed) + stored.raw.llen(stored.keys.wait) == 11


async def test_none_is_given_back_where_starts_are_counted(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    go = asyncio.Event()
    hold = holding(tasks, go)

    async def all_slots_are_taken() -> bool:
        lists = [stored.raw.llen(key) for key in (stored.keys.active, stored.keys.wait)]
        return lists == [SLOTS, 10 - SLOTS]

    handles = await tasks.add_bulk([hold.draft(number == 0) for number in range(11)])
    async with worker(tasks, concurrency=SLOTS, max_started_attempts=1):
        # Had jobs been taken ahead, then when they are back.
        await wait_until_async(all_slots_are_taken, "as many active jobs as slots")
        go.set()
        for handle in handles:
            await handle.result(30)


@pytest.mark.parametrize("whose", ["the queue's", "the worker's"])
async def test_none_is_given_back_where_starts_are_limited(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, whose: str
) -> None:
    """Each job that is taken counts against the limit, and there is no giving that back: its time may be over."""
    go = asyncio.Event()
    hold = holding(tasks, go)
    settings: dict[str, Any] = {}
    if whose == "the queue's":
        await tasks.set_global_rate_limit(12, 3600)
    else:
        settings["limiter"] = Limiter(12, 3_600_000)

    async def all_slots_are_taken() -> bool:
        lists = [stored.raw.llen(key) for key in (stored.keys.active, stored.keys.wait)]
        return lists == [SLOTS, 10 - SLOTS]

    handles = await tasks.add_bulk([hold.draft(number == 0) for number in range(11)])
    async with worker(tasks, concurrency=SLOTS, **settings):
        # Had jobs been taken ahead, then when they are back.
        await wait_until_async(all_slots_are_taken, "as many active jobs as slots")
        assert stored.raw.get(stored.keys.limiter) == str(1 + SLOTS)
        go.set()
        for handle in handles:
            await handle.result(30)
        assert stored.raw.get(stored.keys.limiter) == "11"
        # The limit is lifted: jobs are taken ahead again.
        if whose == "the queue's":
            stored.raw.delete(stored.keys.limiter)
            await tasks.remove_global_rate_limit()
            go.clear()
            await tasks.add_bulk([hold.draft(number == 0) for number in range(11)])

            async def are_back() -> bool:
                return len(given_back(stored)) >= AHEAD

            await wait_until_async(are_back, "what was taken ahead to be given back")
            go.set()


async def test_they_see_the_variables_that_were_set_around_the_worker(tasks: Queue, worker: StartWorker) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @tasks.task
    def step() -> str:
        time.sleep(0.002)
        return user.get()

    handles = await tasks.add_bulk([step.draft() for _ in range(100)])
    user.set("me")
    async with worker(tasks, concurrency=SLOTS):
        assert [await handle.result(30) for handle in handles] == ["me"] * 100
