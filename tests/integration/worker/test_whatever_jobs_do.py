"""Whatever a function raises, returns or does to the event loop ends its own job at most; the worker goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from support import invariants
from support.engine import EngineQueue
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, errors


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Unreadable(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit(1)


class Offended:
    """Everything that may be asked of it is refused."""

    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt


def raises(problem: BaseException) -> Callable[[], NoReturn]:
    def end() -> NoReturn:
        raise problem

    return end


ENDS: dict[str, tuple[Callable[[], Any], str]] = {
    "GeneratorExit": (raises(GeneratorExit()), "GeneratorExit"),
    "SystemExit": (raises(SystemExit(3)), "3"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt()), "KeyboardInterrupt"),
    "MemoryError": (raises(MemoryError()), "MemoryError"),
    "StopIteration": (raises(StopIteration("stop")), "stop|raised StopIteration"),
    "StopAsyncIteration": (raises(StopAsyncIteration("stop")), "stop"),
    "CancelledError": (raises(asyncio.CancelledError()), "CancelledError"),
    "a group": (
        raises(BaseExceptionGroup("all", [SystemExit(1), ValueError("one")])),
        r"all \(2 sub-exceptions\): SystemExit: 1; ValueError: one",
    ),
    "without words": (raises(MuteError()), "MuteError"),
    "never": (raises(errors.DelayJobError(float("inf"))), "seconds: must be"),
    "a generator": (lambda: (number for number in range(3)), "return value: is a generator"),
    "unreadable": (lambda: Unreadable(a=1), "return value: cannot be read"),
    "offended": (Offended, "return value: is a Offended"),
    "a lock": (threading.Lock, "return value: is a lock"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_however_it_ends(tasks: Queue, worker: StartWorker, stored: EngineQueue, end: str) -> None:
    function, words = ENDS[end]

    @tasks.task
    async def at_once() -> Any:
        return function()

    @tasks.task
    async def later() -> Any:
        await asyncio.sleep(0)
        return function()

    @tasks.task
    def in_a_thread() -> Any:
        return function()

    @tasks.task(inline=True)
    def inline() -> Any:
        return function()

    @tasks.task
    async def sound() -> str:
        await asyncio.sleep(0)
        return "sound"

    drafts = [at_once.draft(), later.draft(), in_a_thread.draft(), inline.draft()]
    for concurrency in (1, 10):
        handles = await tasks.add_bulk([*drafts, sound.draft()])
        async with worker(tasks, concurrency=concurrency):
            assert await handles.pop().result(30) == "sound"
            for handle in handles:
                with pytest.raises(JobFailedError, match=words):
                    await handle.result(30)
    invariants.assert_sound(stored.raw, tasks.name)


async def test_a_loop_of_its_own_in_a_thread(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task
    def has_a_loop(*, job: Job = Job.current()) -> str:
        async def main() -> str:
            async with asyncio.timeout(60):
                child = await asyncio.create_subprocess_exec("true")
                code = await child.wait()
            job.sync.log("from another loop")
            return f"{job.id} {code}"

        return asyncio.run(main())

    async with worker(tasks, concurrency=4):
        handles = await tasks.add_bulk([has_a_loop.draft() for _ in range(8)])
        assert [await handle.result(60) for handle in handles] == [f"{handle.id} 0" for handle in handles]


async def test_an_exception_handler_of_its_own_that_breaks(tasks: Queue, worker: StartWorker) -> None:
    handled = asyncio.Event()

    def breaks(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        handled.set()
        raise ValueError("the handler")

    @tasks.task
    async def leaves_one() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(breaks)
        loop.call_soon(raises(ValueError("a callback")))
        return "done"

    async with worker(tasks):
        assert await (await leaves_one.enqueue()).result(30) == "done"
        await asyncio.wait_for(handled.wait(), 30)
        assert await (await leaves_one.enqueue()).result(30) == "done"
    asyncio.get_running_loop().set_exception_handler(None)
