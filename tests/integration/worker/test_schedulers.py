"""A worker and job schedulers when things go wrong: the job runs, and the series goes on."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from support.engine import EngineQueue
from support.proxy import open_proxy
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Queue
from toril.engine import lua_loader
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

HOUR_MS = 3_600_000


async def arm(stored: EngineQueue, name: str) -> int:
    made = await stored.schedulers.upsert("s", Schedule(every_ms=HOUR_MS), JobTemplate.create(name))
    assert made is not None
    return made.slot_ms


@pytest.mark.parametrize("script", ["read_schedulers", "advance_schedulers"])
async def test_a_step_whose_reply_is_lost_is_made_up_for(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, redis_server: RedisServer, redis_url: str, script: str
) -> None:
    runs: list[str] = []

    @tasks.task
    async def step() -> None:
        runs.append("run")

    slot = await arm(stored, "step")
    async with open_proxy(redis_server.port) as proxy:
        proxy.lose_reply(lambda request: lua_loader.load(script).sha.encode() in request)
        url = f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}"
        # The recoverer's own look comes later than the loss.
        async with worker(tasks, url=url, stalled_interval_ms=60_000):
            assert await wait_until_async(_places(stored, "delayed"), "the next job") == [f"repeat:s:{slot + HOUR_MS}"]
            await wait_until_async(_places(stored, "completed"), "the job's end")
        assert proxy.cuts == 1
    assert runs == ["run"]
    assert stored.raw.hget(f"{stored.keys.repeat}:s", "ic") == "2"


async def test_a_step_that_redis_refuses_costs_nothing_but_itself(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def step() -> str:
        return "done"

    await arm(stored, "step")
    stored.raw.delete(stored.keys.repeat)
    stored.raw.set(stored.keys.repeat, "something else")
    async with worker(tasks, stalled_interval_ms=30):
        await wait_until_async(_places(stored, "completed"), "the job's end")
        # And so is everything after it.
        assert await (await step.enqueue()).result(30) == "done"


@pytest.mark.requirement("T23")
async def test_what_a_dead_worker_left_undone_is_done_by_any_other(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def other() -> None: ...

    slot = await arm(stored, "step")
    # Taken, and then its worker was gone: before it made the next job, and before the lock ran out.
    job = await stored.take_one()
    async with worker(tasks, stalled_interval_ms=30):
        (following,) = await wait_until_async(_places(stored, "delayed"), "the next job")
    assert following == f"repeat:s:{slot + HOUR_MS}"
    assert stored.places()["active"] == [job.id]


async def test_a_drained_worker_leaves_the_series_whole(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def step() -> None: ...

    await stored.schedulers.upsert("s", Schedule(every_ms=20), JobTemplate.create("step"))
    async with worker(tasks):
        await wait_until_async(_places(stored, "completed"), "a run")
    (record,) = await stored.schedulers.list()
    assert record.job is not None
    armed = stored.places()
    assert record.job_id in armed.get("delayed", []) + armed.get("wait", [])


def _places(stored: EngineQueue, name: str) -> Callable[[], Awaitable[list[str]]]:
    async def probe() -> list[str]:
        return stored.places().get(name, [])

    return probe


ODD_OPTIONS = (
    '"note":"cut \\ud83d"', '"priority":1e999', '"backoff":1e999', '"backoff":-1e999', '"delay":1e999',
    '"backoff":{"type":"exponential","delay":1e999}', '"de":{"id":"d","ttl":1e999}', '"notes":[1,{"a":-1e999}]',
    *(f'"deep":{"[" * depth}{"]" * depth}' for depth in (500, 900)),
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD_OPTIONS, ids=lambda text: text[:30])
async def test_nonsense_in_a_jobs_options_ends_neither_worker_nor_series(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, odd: str
) -> None:
    @tasks.task
    async def step() -> None:
        pass

    slot = await arm(stored, "step")
    stored.raw.hset(stored.keys.job(f"repeat:s:{slot}"), "opts", f'{{"attempts":1,{odd}}}')
    async with worker(tasks):
        (following,) = await wait_until_async(_places(stored, "delayed"), "the next job")
        await wait_until_async(_places(stored, "completed"), "the job's end")
    assert following == f"repeat:s:{slot + HOUR_MS}"
    # What BullMQ's workers can read: JSON, without numbers that JavaScript reads as none.
    opts = json.loads(stored.hash(following)["opts"], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert opts["attempts"] == 1
