"""Waiting for a job's end when Redis is lost in the middle, when the job is not kept, and many times in a row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.engine import EngineQueue
from support.proxy import Proxy, open_proxy
from support.redis_server import RedisServer
from toril import JobFailedError, JobNotFoundError, Queue
from toril.client import results
from toril.engine.worker import Finish
from toril.jobs.retention import KEEP_NONE


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with open_proxy(redis_server.port) as opened:
        yield opened


async def end_without_a_trace(stored: EngineQueue, *, failed_reason: str | None = None) -> None:
    """Finish the next job as a worker does that keeps no finished jobs."""
    job = await stored.take_one()
    if failed_reason is None:
        finish = Finish.completed(job, "7", KEEP_NONE)
    else:
        finish = Finish.failed(job, failed_reason, "[]", KEEP_NONE)
    await stored.active.finish_and_take([finish], 0, stored.token())


@pytest.mark.parametrize("plain", [False, True], ids=["on a loop", "in a thread"])
async def test_the_search_for_the_end_of_a_job_that_is_gone_survives_a_lost_reply(
    tasks: Queue, stored: EngineQueue, proxy: Proxy, redis_url: str, plain: bool
) -> None:
    handle = await tasks.add("send", {})
    await end_without_a_trace(stored)
    url = f"redis://127.0.0.1:{proxy.port}/{redis_url.rsplit('/', 1)[1]}"
    async with Queue(tasks.name, url=url) as behind:
        waiting = behind.handle(handle.id)
        await waiting.state()
        proxy.lose_reply(lambda request: b"XRANGE" in request)
        result = asyncio.to_thread(waiting.sync.result, 30) if plain else waiting.result(30)
        assert await result == 7
        assert proxy.cuts == 1
        await asyncio.to_thread(behind.sync.close)


async def test_a_thread_gets_the_result_of_a_job_that_is_not_kept(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {})
    await end_without_a_trace(stored)
    assert await asyncio.to_thread(handle.sync.result, 30) == 7
    with pytest.raises(JobNotFoundError):
        await asyncio.to_thread(handle.sync.job)


async def test_a_thread_gets_the_failure_of_a_job_that_is_not_kept(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {})
    await end_without_a_trace(stored, failed_reason="no such user")
    with pytest.raises(JobFailedError, match="no such user") as caught:
        await asyncio.to_thread(handle.sync.result, 30)
    assert (caught.value.job_id, caught.value.stacktrace) == (handle.id, ())
    with pytest.raises(JobNotFoundError, match=f"job {handle.id}0 is not in queue") as unknown:
        await asyncio.to_thread(tasks.handle(f"{handle.id}0").sync.result, 30)
    assert unknown.value.__context__ is None


async def test_results_one_after_the_other_leave_one_timer(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("send", {})
    job = await stored.take_one()
    await stored.active.finish_and_take([Finish.completed(job, "7")], 0, stored.token())
    for _ in range(20):
        assert await handle.result(30) == 7
    assert len(idle_timers()) == 1
    await tasks.close()
    assert not idle_timers()


def idle_timers() -> list[Any]:
    """The timers of the running loop that will stop a reader of events."""
    loop: Any = asyncio.get_running_loop()
    stops = results.ResultWaiter._stop_if_idle
    live = [timer for timer in loop._scheduled if not timer.cancelled()]
    return [timer for timer in live if getattr(timer._callback, "__func__", None) is stops]
