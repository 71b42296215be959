"""What asyncio offers works inside a job as it does in a task of asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from support import invariants
from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, errors

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
cleaned: list[str] = []


def this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def runs_out_of_time() -> str:
    async with asyncio.timeout(0.02):
        await asyncio.Event().wait()
    return "not reached"


async def gives_up_waiting() -> str:
    await asyncio.wait_for(asyncio.Event().wait(), 0.02)
    return "not reached"


async def is_in_time() -> str:
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return "in time"


async def goes_on_after_an_inner_timeout() -> str:
    async with asyncio.timeout(60):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        await asyncio.sleep(0.01)
    return f"cancelled {this_task().cancelling()} times"


async def cancels_itself() -> str:
    this_task().cancel("enough")
    await asyncio.sleep(0)
    return "not reached"


async def is_cancelled_while_it_waits() -> str:
    asyncio.get_running_loop().call_later(0.01, this_task().cancel, "from outside")
    await asyncio.Event().wait()
    return "not reached"


async def takes_its_cancellation_back() -> str:
    this_task().cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    left = this_task().uncancel()
    await asyncio.sleep(0.01)
    return f"{left} left"


async def is_one_task_from_first_to_last() -> str:
    first = this_task()
    await asyncio.sleep(0)
    second = this_task()
    await asyncio.sleep(0.01)
    return "one" if first is second is this_task() else "several"


async def groups() -> str:
    async def part(word: str) -> str:
        await asyncio.sleep(0.005)
        return word

    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(part(word)) for word in ("one", "two")]
    return " ".join(each.result() for each in parts)


async def groups_with_a_part_that_fails() -> str:
    async def part(*, fails: bool) -> None:
        try:
            if fails:
                raise ValueError("a part")
            await asyncio.Event().wait()
        finally:
            cleaned.append("part")

    cleaned.clear()
    told: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(part(fails=False))
            group.create_task(part(fails=True))
            await asyncio.Event().wait()
    except* ValueError as problems:
        told += [str(problem) for problem in problems.exceptions]
    await asyncio.sleep(0)
    return f"{told} {cleaned} {this_task().cancelling()}"


async def keeps_its_variables() -> str:
    seen = [user.get()]
    user.set("me")
    await asyncio.sleep(0)
    seen.append(user.get())
    await asyncio.sleep(0.005)
    seen.append(await asyncio.to_thread(user.get))

    async def child() -> str:
        await asyncio.sleep(0)
        before = user.get()
        user.set("a child")
        return before

    seen += await asyncio.gather(child(), child())
    called: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: called.set_result(user.get()))
    seen.append(await called)
    token = user.set("for a while")
    await asyncio.sleep(0)
    user.reset(token)
    return " ".join([*seen, user.get()])


async def leaves_a_shielded_part_alone() -> str:
    part = asyncio.create_task(asyncio.sleep(0.02, "done"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.shield(part)
    return await part


async def cleans_up_while_it_is_cancelled() -> str:
    cleaned.clear()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.005)
            cleaned.append("numbers")

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01), contextlib.aclosing(numbers()) as source:
            async for _ in source:
                pass
    return " ".join(cleaned)


@pytest.mark.parametrize(
    ("function", "end"),
    [
        (runs_out_of_time, TimeoutError),
        (gives_up_waiting, TimeoutError),
        (is_in_time, "in time"),
        (goes_on_after_an_inner_timeout, "cancelled 0 times"),
        (cancels_itself, asyncio.CancelledError),
        (is_cancelled_while_it_waits, asyncio.CancelledError),
        (takes_its_cancellation_back, "0 left"),
        (is_one_task_from_first_to_last, "one"),
        (groups, "one two"),
        (groups_with_a_part_that_fails, "['a part'] ['part', 'part'] 0"),
        (keeps_its_variables, "nobody me me me me me me"),
        (leaves_a_shielded_part_alone, "done"),
        (cleans_up_while_it_is_cancelled, "numbers"),
    ],
)
@pytest.mark.parametrize("beside", [0, 2], ids=["alone", "among jobs that do not wait"])
async def test_as_in_a_task(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, beside: int,
    function: Callable[[], Coroutine[Any, Any, str]], end: str | type[BaseException],
) -> None:  # fmt: skip
    @tasks.task
    async def does_not_wait() -> str:
        return user.get()

    in_a_task = asyncio.create_task(function())
    await asyncio.wait([in_a_task])
    quick = [does_not_wait.draft() for _ in range(beside)]
    handles = await tasks.add_bulk([*quick, tasks.task(function).draft(), *quick])
    handle = handles.pop(beside)
    async with worker(tasks, concurrency=10):
        assert [await other.result(30) for other in handles] == ["nobody"] * len(handles)
        if isinstance(end, str):
            assert in_a_task.result() == end
            assert await handle.result(30) == end
        else:
            with pytest.raises(end):
                in_a_task.result()
            with pytest.raises(JobFailedError) as caught:
                await handle.result(30)
            assert end.__name__ in caught.value.stacktrace[-1]
    invariants.assert_sound(stored.raw, tasks.name)


async def test_a_timer_that_is_left_behind_hits_no_other_job(tasks: Queue, worker: StartWorker) -> None:
    """Cancelling a task that has ended does nothing; so it is for a job that has ended."""
    fired = asyncio.Event()

    @tasks.task
    async def leaves_a_timer() -> None:
        loop, task = asyncio.get_running_loop(), this_task()
        loop.call_later(0.02, task.cancel)
        loop.call_later(0.02, fired.set)

    @tasks.task
    async def waits() -> str:
        await fired.wait()
        return "fine"

    handles = await tasks.add_bulk([leaves_a_timer.draft(), waits.draft()])
    async with worker(tasks, concurrency=10):
        assert await handles[1].result(30) == "fine"


async def test_what_is_to_be_called_at_a_tasks_end_is_called_at_the_jobs(tasks: Queue, worker: StartWorker) -> None:
    called = asyncio.Event()

    @tasks.task
    async def leaves_a_callback() -> None:
        this_task().add_done_callback(lambda _: called.set())

    @tasks.task
    async def waits() -> str:
        async with asyncio.timeout(30):
            await called.wait()
        return "fine"

    handles = await tasks.add_bulk([leaves_a_callback.draft(), waits.draft()])
    async with worker(tasks, concurrency=10):
        assert await handles[1].result(30) == "fine"


async def test_a_cancellation_that_was_taken_back_hits_no_other_job(tasks: Queue, worker: StartWorker) -> None:
    """Before Python 3.13 one that was taken back at once is still delivered."""

    @tasks.task
    async def takes_it_back() -> None:
        this_task().cancel()
        this_task().uncancel()

    @tasks.task
    async def waits() -> str:
        await asyncio.sleep(0.01)
        return "fine"

    handles = await tasks.add_bulk([takes_it_back.draft(), waits.draft()])
    async with worker(tasks, concurrency=10):
        assert await handles[1].result(30) == "fine"


async def test_the_name_that_a_job_gives_its_task_is_its_own(tasks: Queue, worker: StartWorker) -> None:
    """Logs show it."""

    @tasks.task
    async def names_itself() -> None:
        this_task().set_name("mine")

    @tasks.task
    async def tells_its_name() -> str:
        await asyncio.sleep(0)
        return this_task().get_name()

    async with worker(tasks, concurrency=10):
        handles = await tasks.add_bulk([names_itself.draft(), tells_its_name.draft()])
        assert await handles[1].result(30) == "toril job"


async def test_what_a_job_set_is_seen_by_no_other_when_it_was_the_one_to_connect_anew(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    """Answers come in the context of whoever connected."""
    go = asyncio.Event()

    @tasks.task
    async def connects(*, job: Job = Job.current()) -> str:
        await go.wait()
        user.set("me")
        clients = [client["id"] for client in stored.raw.client_list() if client["cmd"] in ("evalsha", "eval")]
        assert set(clients) - others, "the worker has no connection"
        for client in set(clients) - others:
            stored.raw.client_kill_filter(_id=client)
        while True:
            with contextlib.suppress(errors.RedisError):
                await job.progress(1)
                return user.get()

    @tasks.task
    async def comes_later() -> str:
        await asyncio.sleep(0)
        return user.get()

    async def is_idle() -> bool:
        blocked = [client for client in stored.raw.client_list() if client["cmd"] == "bzpopmin"]
        return bool(blocked) and not stored.raw.exists(stored.keys.marker)

    first = await connects.enqueue()
    others = {client["id"] for client in stored.raw.client_list()}
    async with worker(tasks, concurrency=2):
        await wait_until_async(is_idle, "the worker to wait for more")
        go.set()
        assert await first.result(30) == "me"
        assert await (await comes_later.enqueue()).result(30) == "nobody"
