"""Functions that return or raise what nobody can tell of: their jobs fail, and the worker keeps all its slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import invariants
from support.engine import EngineQueue
from support.worker_inside import StartWorker
from toril import JobFailedError, Queue


class Treacherous(dict[str, Any]):
    """A dict that cannot be looked at."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("not to be looked at")

    items = __iter__  # type: ignore[assignment]
    keys = __iter__  # type: ignore[assignment]


class Unspeakable(Exception):  # noqa: N818
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("not to be told")

    __repr__ = __str__


def returns_treacherous() -> Any:
    return Treacherous(key="value")


def returns_endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def raises_unspeakable() -> Any:
    raise Unspeakable


def raises_itself() -> Any:
    error = ValueError("its own cause")
    error.__cause__ = error
    raise error


def raises_keyboard_interrupt() -> Any:
    raise KeyboardInterrupt


FUNCTIONS: list[Callable[[], Any]] = [
    returns_treacherous, returns_endless, raises_unspeakable, raises_itself, raises_keyboard_interrupt,
]  # fmt: skip


@pytest.mark.requirement("T16")
@pytest.mark.parametrize("how", ["coroutine", "coroutine that waits", "inline", "thread"])
async def test_their_jobs_fail_and_the_slots_stay(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, how: str
) -> None:
    for function in FUNCTIONS:
        if how in ("inline", "thread"):
            tasks.task(name=function.__name__, inline=how == "inline")(function)
        else:
            tasks.task(name=function.__name__)(as_coroutine(function, waits=how != "coroutine"))

    @tasks.task
    async def good() -> str:
        return "fine"

    async with worker(tasks, concurrency=1):
        for function in FUNCTIONS:
            with pytest.raises(JobFailedError):
                await (await tasks.add(function.__name__, {})).result(30)
            assert await (await good.enqueue()).result(30) == "fine"
    kept = invariants.assert_sound(stored.raw, tasks.name)
    assert len(kept.containers["failed"]) == len(FUNCTIONS)


def as_coroutine(function: Callable[[], Any], *, waits: bool) -> Any:
    async def coroutine() -> Any:
        if waits:
            await asyncio.sleep(0)
        return function()

    return coroutine


@pytest.mark.requirement("T13")
async def test_a_backoff_strategy_that_breaks_costs_no_slot(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.backoff
    def breaks(*_: Any) -> int:
        raise RuntimeError("no idea how long")

    @tasks.task
    async def fails() -> None:
        raise ValueError("as planned")

    @tasks.task
    async def good() -> str:
        return "fine"

    async with worker(tasks, concurrency=1):
        handle = await tasks.add("fails", {}, {"attempts": 2, "backoff": {"type": "mine", "delay": 10}})
        assert await (await good.enqueue()).result(30) == "fine"
        with pytest.raises(JobFailedError, match="as planned"):
            await handle.result(30)
    invariants.assert_sound(stored.raw, tasks.name)


@pytest.mark.requirement("T16")
async def test_a_job_that_cancels_itself_cancels_no_other(tasks: Queue, worker: StartWorker) -> None:
    """Jobs that do not wait share a task, which is none of their business."""

    @tasks.task
    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    @tasks.task
    async def good() -> str:
        await asyncio.sleep(0)
        return "fine"

    await cancels.enqueue()
    handles = [await good.enqueue(), await good.enqueue()]
    async with worker(tasks, concurrency=10):
        assert [await handle.result(30) for handle in handles] == ["fine", "fine"]
