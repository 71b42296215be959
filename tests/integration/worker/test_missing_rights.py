"""A worker whose user lacks a right in Redis: it says so, charges no job, goes on later, and can leave."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator

import pytest

from support import invariants
from support.engine import EngineQueue
from support.refusals import Server
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, flow

TOLD = "no right to"


@pytest.fixture
def server(redis_url: str, queue_name: str) -> Iterator[Server]:
    started = Server(redis_url, queue_name)
    yield started
    started.close()


def url_of(server: Server, redis_url: str) -> str:
    return redis_url.replace("://", f"://{server.user}:secret@")


async def test_a_worker_that_may_not_take_leaves_when_it_is_stopped(
    tasks: Queue, worker: StartWorker, server: Server, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Long before its time for draining is over: it holds nothing."""

    @tasks.task
    async def step() -> None: ...

    await step.enqueue()
    server.make_user("~*", "+@all", "-lmove")

    async def is_told() -> bool:
        return TOLD in caplog.text

    async with worker(tasks, url=url_of(server, redis_url), concurrency=1):
        await wait_until_async(is_told, "a line about the right")


@pytest.mark.parametrize("command", ["xadd", "zadd", "lrem"])
async def test_what_ends_without_the_right_is_recorded_once_it_is_there(
    tasks: Queue,
    worker: StartWorker,
    server: Server,
    stored: EngineQueue,
    redis_url: str,
    command: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs: collections.Counter[str] = collections.Counter()
    may_end = asyncio.Event()

    @tasks.task
    async def step(fails: bool, *, job: Job = Job.current()) -> None:
        runs[job.id] += 1
        await may_end.wait()
        if fails and runs[job.id] == 1:
            raise RuntimeError("the first attempt")

    async def are_running() -> bool:
        return len(runs) == 2

    async def is_told() -> bool:
        return TOLD in caplog.text

    async def have_ended() -> bool:
        return set(stored.places()) == {"completed"}

    server.make_user("~*", "+@all")
    await step.enqueue(False)
    await step.options(attempts=2).enqueue(True)
    async with worker(tasks, url=url_of(server, redis_url), concurrency=2, lock_ms=2000, lock_renew_ms=200):
        await wait_until_async(are_running, "two jobs to run")
        server.make_user("~*", "+@all", f"-{command}")
        may_end.set()
        await wait_until_async(is_told, "a line about the right")
        server.make_user("~*", "+@all")
        await wait_until_async(have_ended, "both jobs to end", timeout_seconds=60)
    found = invariants.assert_sound(stored.raw, stored.keys.queue)
    assert runs == {"1": 1, "2": 2}
    assert {job_id: (fields["atm"], fields.get("stc")) for job_id, fields in found.jobs.items()} == {
        "1": ("1", None),
        "2": ("2", None),
    }


async def test_an_end_that_lacks_a_right_holds_no_other_up(
    tasks: Queue, worker: StartWorker, server: Server, stored: EngineQueue, redis_url: str
) -> None:
    """A child's end tells its parent, in a queue that this worker's user may not touch; others need no such right."""
    may_end = asyncio.Event()
    started: list[str] = []

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        started.append(job.id)
        await may_end.wait()

    parent_name = f"{tasks.name}-parents"
    async with Queue(parent_name, url=redis_url) as parents:
        parent = parents.task(_up)
        await flow(parent.draft(), [step.draft()]).enqueue()
        others = [await step.enqueue() for _ in range(3)]
        server.make_user(f"~bull:{tasks.name}:*", f"~bull:{parent_name}:*", "+@all")

        async def are_running() -> bool:
            return len(started) == 4

        async def are_recorded() -> bool:
            return set(stored.places().get("completed", [])) == {other.id for other in others}

        async def are_all_recorded() -> bool:
            return len(stored.places().get("completed", [])) == 4

        async with worker(tasks, url=url_of(server, redis_url), concurrency=4, lock_ms=2000, lock_renew_ms=200):
            await wait_until_async(are_running, "four jobs to run")
            server.make_user(f"~bull:{tasks.name}:*", "+@all")
            may_end.set()
            await wait_until_async(are_recorded, "the ends of the others")
            assert stored.places()["active"] == [next(iter(set(started) - {other.id for other in others}))]
            server.make_user("~*", "+@all")
            await wait_until_async(are_all_recorded, "the end of the child", timeout_seconds=60)
        assert (await parents.counts())["waiting"] == 1


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_end_that_lacks_a_right_keeps_its_own_slot_only(
    tasks: Queue, worker: StartWorker, server: Server, stored: EngineQueue, redis_url: str, concurrency: int
) -> None:
    """Free slots take new jobs while the right is missing; a worker without a free slot takes none."""
    may_end = asyncio.Event()
    runs: collections.Counter[str] = collections.Counter()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs[job.id] += 1
        await may_end.wait()

    parent_name = f"{tasks.name}-parents"
    async with Queue(parent_name, url=redis_url) as parents:
        await flow(parents.task(_up).draft(), [step.draft()]).enqueue()
        server.make_user(f"~bull:{tasks.name}:*", f"~bull:{parent_name}:*", "+@all")

        async def is_running() -> bool:
            return len(runs) == 1

        def completed() -> int:
            return len(stored.places().get("completed", []))

        async def are_others_completed() -> bool:
            return completed() == 10

        async def are_all_completed() -> bool:
            return completed() == 11

        async def is_refused_again() -> bool:
            return server.denials() >= refused_before + 3

        async with worker(
            tasks, url=url_of(server, redis_url), concurrency=concurrency, lock_ms=2000, lock_renew_ms=200
        ):
            await wait_until_async(is_running, "the child to run")
            server.make_user(f"~bull:{tasks.name}:*", "+@all")
            may_end.set()
            refused_before = server.denials()
            await wait_until_async(is_refused_again, "the end of the child to be tried again")
            child = next(iter(runs))
            assert stored.places()["active"] == [child]
            for _ in range(10):
                await step.enqueue()
            if concurrency > 1:
                await wait_until_async(are_others_completed, "the jobs of the free slots")
            else:
                refused_before = server.denials()
                await wait_until_async(is_refused_again, "the end of the child to be tried again")
                assert len(stored.places()["wait"]) == 10
            assert stored.places()["active"] == [child]
            server.make_user("~*", "+@all")
            await wait_until_async(are_all_completed, "the end of the child", timeout_seconds=60)
        assert (await parents.counts())["waiting"] == 1
    assert set(runs.values()) == {1}


async def _up() -> None: ...
