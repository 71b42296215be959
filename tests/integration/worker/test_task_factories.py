"""Workers on loops that make their tasks in a way of the user's own: eager ones, say, or such as tracing brings."""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from support import invariants
from support.engine import EngineQueue
from support.worker_inside import StartWorker
from toril import Queue

Factory = Callable[..., "asyncio.Future[Any]"]
JOBS = 1200
"""More than calls may be nested."""


class OwnTask(asyncio.Task[Any]):
    """A task of the user's own."""


def own(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Future[Any]:
    return OwnTask(coroutine, loop=loop, **options)


def own_with_a_callback(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Future[Any]:
    task = OwnTask(coroutine, loop=loop, **options)
    task.add_done_callback(lambda _: None)
    return task


def at_once(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Future[Any]:
    """Tasks for jobs make their first step before there is a task to give out, as all do with
    `asyncio.eager_task_factory` of Python 3.12."""
    if "Executor._run" not in str(coroutine):
        return OwnTask(coroutine, loop=loop, **options)
    waits_for = coroutine.send(None)

    @types.coroutine
    def rest() -> Generator[Any, Any, Any]:
        yield waits_for
        return (yield from coroutine)

    async def goes_on() -> Any:
        return await rest()

    return OwnTask(goes_on(), loop=loop, **options)


FACTORIES: list[Factory] = [own, own_with_a_callback, at_once]
if hasattr(asyncio, "eager_task_factory"):
    FACTORIES.append(asyncio.eager_task_factory)


@contextlib.contextmanager
def using(factory: Factory) -> Iterator[None]:
    """Let the running loop make its tasks so."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(None)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
async def test_jobs_run_as_ever(tasks: Queue, worker: StartWorker, stored: EngineQueue, factory: Factory) -> None:
    seen: set[asyncio.Task[Any]] = set()
    is_crowded = asyncio.Event()

    @tasks.task
    async def waits() -> str:
        """Returns when more are there than calls may be nested."""
        task = asyncio.current_task()
        assert task is not None
        assert task not in seen
        seen.add(task)
        if len(seen) == JOBS:
            is_crowded.set()
        async with asyncio.timeout(30):
            await is_crowded.wait()
        return "same" if asyncio.current_task() is task else "another"

    @tasks.task
    async def does_not_wait() -> str:
        return "at once"

    @tasks.task
    def runs_in_a_thread() -> str:
        return "in a thread"

    with using(factory):
        async with worker(tasks, concurrency=JOBS + 10):
            quick = [does_not_wait.draft(), runs_in_a_thread.draft()]
            handles = await tasks.add_bulk([*quick, *[waits.draft() for _ in range(JOBS)], *quick])
            results = [await handle.result(60) for handle in handles]
    assert results == ["at once", "in a thread", *["same"] * JOBS, "at once", "in a thread"]
    invariants.assert_sound(stored.raw, tasks.name)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
async def test_a_cancellation_of_a_job_hits_no_other_job(tasks: Queue, worker: StartWorker, factory: Factory) -> None:
    @tasks.task
    async def takes_it_back() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()

    @tasks.task
    async def waits() -> str:
        await asyncio.sleep(0.01)
        return "fine"

    with using(factory):
        async with worker(tasks, concurrency=10):
            handles = await tasks.add_bulk([takes_it_back.draft(), waits.draft()])
            assert await handles[1].result(30) == "fine"
