"""Adding jobs and waiting for them, from asynchronous and from plain code."""

from __future__ import annotations

import asyncio

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from toril import Job, JobFailedError, JobNotFoundError, Queue, ResultTimeoutError, errors
from toril.engine.worker import Finish
from toril.jobs.retention import KEEP_NONE


async def complete(stored: EngineQueue, value: str = '"ok"') -> None:
    """Do the next job as a worker would."""
    job = await stored.take_one()
    await stored.active.finish_and_take([Finish.completed(job, value)], 0, stored.token())


async def test_a_result_that_is_there_already(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {"to": "a"})
    assert await handle.state() == "waiting"
    assert (await handle.job()).data == {"to": "a"}
    await complete(stored, '{"n":1}')
    assert await handle.result(30) == {"n": 1}
    assert await tasks.handle(handle.id).result(30) == {"n": 1}
    assert await handle.state() == "completed"


async def test_many_wait_on_one_reader(tasks: Queue, stored: EngineQueue) -> None:
    handles = [await tasks.add("send", number) for number in range(20)]
    waiting = [asyncio.ensure_future(handle.result(30)) for handle in handles for _ in range(2)]
    await asyncio.sleep(0)
    for number in range(20):
        await complete(stored, str(number))
    assert await asyncio.gather(*waiting) == [number for number in range(20) for _ in range(2)]
    readers = [client for client in stored.raw.client_list() if client["name"].endswith(":qe")]
    assert len(readers) == 1


async def test_the_result_of_a_job_that_is_not_kept(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {}, {"removeOnComplete": True})
    job = await stored.take_one()
    await stored.active.finish_and_take([Finish.completed(job, "7", KEEP_NONE)], 0, "t")
    assert await handle.result(30) == 7
    with pytest.raises(JobNotFoundError):
        await handle.job()


async def test_a_failure_carries_reason_and_trace(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {})
    job = await stored.take_one()
    await stored.active.finish_and_take([Finish.failed(job, "no such user", '["line 1"]')], 0, "t")
    with pytest.raises(JobFailedError, match="no such user") as caught:
        await handle.result(30)
    assert (caught.value.job_id, caught.value.stacktrace) == ("1", ("line 1",))


async def test_waiting_has_an_end(tasks: Queue) -> None:
    handle = await tasks.add("send", {})
    with pytest.raises(ResultTimeoutError, match=r"job 1 of queue .*: 0\.05 s over"):
        await handle.result(0.05)
    with pytest.raises(JobNotFoundError, match="job 99 is not in queue"):
        await tasks.handle("99").result(30)


async def test_plain_code_adds_and_waits(tasks: Queue, stored: EngineQueue) -> None:
    @tasks.task
    def send(to: str) -> str:
        return to

    def in_a_thread() -> tuple[str, str]:
        handle = send.sync.enqueue("a")
        more = tasks.sync.add_bulk([send.draft("b"), send.draft("c")])
        return str(handle.result(30)), more[-1].state()

    answer = asyncio.create_task(asyncio.to_thread(in_a_thread))

    async def is_added() -> bool:
        return "wait" in stored.places()

    await wait_until_async(is_added, "the first job")
    await complete(stored, '"A"')
    assert await answer == ("A", "waiting")
    assert send("plain call") == "plain call"


async def test_a_job_id_adds_once(tasks: Queue) -> None:
    @tasks.task
    async def send(to: str) -> None: ...

    handles = [await send.options(job_id="w-42").enqueue(to) for to in "ab"]
    assert {handle.id for handle in handles} == {"w-42"}
    assert (await handles[0].job()).data == {"to": "a"}
    assert await tasks.counts() | {"waiting": 1} == await tasks.counts()


async def test_drafts_of_another_queue_are_refused(tasks: Queue) -> None:
    other = Queue("other")

    @other.task
    async def send() -> None: ...

    with pytest.raises(errors.InvalidOptionError, match="a draft of queue other is not for"):
        await tasks.add_bulk([send.draft()])


async def test_pause_and_resume(tasks: Queue) -> None:
    assert (await tasks.pause(), await tasks.pause()) == (True, False)
    assert (await tasks.resume(), await tasks.resume()) == (True, False)


async def test_no_job_runs_here() -> None:
    with pytest.raises(errors.NoCurrentJobError, match="no job is running here"):
        _ = Job.current().id


async def test_an_unreachable_redis_is_told_at_once() -> None:
    async with Queue("a", url="redis://127.0.0.1:1") as queue:
        with pytest.raises(errors.RedisUnavailableError, match="cannot connect to Redis 127"):
            await queue.add("send", {})
        with pytest.raises(errors.RedisUnavailableError):
            await asyncio.to_thread(queue.sync.add, "send", {})


async def test_what_is_brought_back_while_paused_goes_where_the_queues_layout_says(
    redis_url: str, queue_name: str, stored: EngineQueue
) -> None:
    async with Queue(queue_name, url=redis_url, paused_layout="5") as queue:
        handles = [await queue.add("n", {}) for _ in range(3)]
        for job in await stored.take(3):
            await stored.finish(Finish.failed(job, "x", "[]"))
        await queue.pause()
        await handles[0].retry()
        await asyncio.to_thread(handles[1].sync.retry)
        assert await queue.retry_all() == 1
        assert sorted(stored.places()["paused"]) == ["1", "2", "3"]
    queue.sync.close()
