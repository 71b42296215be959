"""What a failed attempt held in its variables is freed when its end is recorded, without Python's cycle collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, Unrecoverable, errors


class Held:
    """Something large in a variable of the user's."""

    living: weakref.WeakSet[Held] = weakref.WeakSet()

    def __init__(self) -> None:
        Held.living.add(self)

    def use(self) -> None:
        """Keeps the variable until here."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fails() -> Any:
    held = Held()
    raise ValueError(f"with {type(held).__name__}")


def fails_with_a_cause() -> Any:
    try:
        fails()
    except ValueError as problem:
        held = Held()
        raise RuntimeError(f"with {type(held).__name__}") from problem


def fails_in_between() -> Any:
    try:
        fails()
    except ValueError:
        held = Held()
        raise RuntimeError(f"with {type(held).__name__}")  # noqa: B904 - its context is the point


def fails_as_a_group() -> Any:
    found: list[Exception] = []
    for _ in range(3):
        try:
            fails_in_between()
        except RuntimeError as problem:
            found.append(problem)
    raise ExceptionGroup("all", [ExceptionGroup("some", found)])


def fails_with_the_last() -> Any:
    held, last = Held(), None
    for _ in range(3):
        try:
            fails()
        except ValueError as problem:
            last = problem
    held.use()
    assert last is not None
    raise last


def fails_for_good() -> Any:
    held = Held()
    raise Unrecoverable(f"with {type(held).__name__}")


def exits() -> Any:
    held = Held()
    raise SystemExit(type(held).__name__)


def asks_for_another_run() -> Any:
    held = Held()
    if Job.current().record.attempts_started > 1:
        raise Unrecoverable(f"with {type(held).__name__}")
    Job.current().move_to_wait()


def returns_what_is_not_json() -> Any:
    return Held()


FUNCTIONS = [
    fails, fails_with_a_cause, fails_in_between, fails_as_a_group, fails_with_the_last, fails_for_good, exits,
    asks_for_another_run, returns_what_is_not_json,
]  # fmt: skip


async def in_a_task_group(function: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(later(function))
        group.create_task(later(function))


async def in_time(function: Any) -> None:
    held = Held()
    async with asyncio.timeout(0.01):
        await asyncio.sleep(30)
    held.use()
    function()


async def awaits_a_task(function: Any) -> None:
    task = asyncio.create_task(later(function))
    await task


async def later(function: Any) -> Any:
    held = Held()
    await asyncio.sleep(0)
    held.use()
    return function()


@pytest.fixture(params=[1, 10])
def concurrency(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


async def assert_freed(stored: EngineQueue, failed: int) -> None:
    async def is_freed() -> bool:
        return not Held.living

    await wait_until_async(is_freed, f"all {failed} failures to let go")


@pytest.mark.parametrize("how", ["coroutine", "coroutine that waits", "inline", "thread", "awaited in a thread"])
async def test_in_every_kind_of_function(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, how: str, concurrency: int
) -> None:
    for function in FUNCTIONS:
        if how in ("inline", "thread"):
            tasks.task(name=function.__name__, inline=how == "inline", attempts=2)(function)
        elif how == "awaited in a thread":
            tasks.task(name=function.__name__)(as_plain(function))
        else:
            tasks.task(name=function.__name__)(as_coroutine(function, waits=how != "coroutine"))
    handles = [await tasks.add(function.__name__, {}) for function in FUNCTIONS]
    async with worker(tasks, concurrency=concurrency):
        for handle in handles:
            with pytest.raises(JobFailedError):
                await handle.result(30)
        await assert_freed(stored, len(handles))


def as_coroutine(function: Any, *, waits: bool) -> Any:
    async def coroutine() -> Any:
        if waits:
            await asyncio.sleep(0)
        return function()

    return coroutine


def as_plain(function: Any) -> Any:
    def plain() -> Any:
        return later(function)

    return plain


@pytest.mark.parametrize("way", [in_a_task_group, in_time, awaits_a_task, later])
async def test_in_every_way_of_waiting(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, way: Any, concurrency: int
) -> None:
    @tasks.task
    async def waits() -> None:
        await way(fails_in_between)

    handles = [await waits.enqueue() for _ in range(3)]
    async with worker(tasks, concurrency=concurrency):
        for handle in handles:
            with pytest.raises(JobFailedError):
                await handle.result(30)
        await assert_freed(stored, len(handles))


@pytest.mark.parametrize("is_async", [False, True])
async def test_when_hooks_have_seen_it(tasks: Queue, worker: StartWorker, stored: EngineQueue, is_async: bool) -> None:
    seen = []

    @tasks.task
    async def fails_later() -> None:
        await later(fails)

    def look(job: Job, error: BaseException) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        seen.append(trace is not None and trace.tb_frame.f_code.co_name)

    async def look_later(job: Job, error: BaseException) -> None:
        await asyncio.sleep(0)
        look(job, error)
        raise errors.TorilError("and fails itself")

    tasks.on_exhausted(look_later if is_async else look)
    async with worker(tasks):
        with pytest.raises(JobFailedError):
            await (await fails_later.enqueue()).result(30)
        await assert_freed(stored, 1)
    assert seen == ["fails"]


async def test_when_the_run_was_cancelled(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    begun = asyncio.Event()

    @tasks.task
    async def waits() -> None:
        held = Held()
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            fails_in_between()
        held.use()

    await waits.enqueue()
    async with worker(tasks, drain_seconds=0.0):
        await begun.wait()
    await assert_freed(stored, 1)
    assert stored.places() == {"wait": ["1"]}
