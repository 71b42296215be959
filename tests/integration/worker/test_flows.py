"""Flows from end to end: trees of tasks, children of running jobs, and jobs that ask to be run anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.engine import EngineQueue
from support.proxy import open_proxy
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import (
    Job,
    JobFailedError,
    ParentConflictError,
    Queue,
    RateLimitedError,
    WaitForChildrenError,
    add_flows,
    errors,
    flow,
)
from toril.engine.scripts import Limiter


@pytest.fixture
async def parts(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    """The queue of the children."""
    async with Queue(queue_name + "-parts", url=redis_url) as queue:
        yield queue


@pytest.mark.requirement("Z-45")
async def test_a_parent_gets_what_its_children_returned(tasks: Queue, parts: Queue, worker: StartWorker) -> None:
    @parts.task
    async def square(number: int) -> int:
        return number * number

    @tasks.task
    async def add(job: Job = Job.current()) -> int:
        return sum((await job.children_values()).values())

    @tasks.task
    def add_in_thread(job: Job = Job.current()) -> int:
        return sum(job.sync.children_values().values())

    inner = flow(add.draft(), [square.draft(1), square.draft(2)])
    async with worker(parts, concurrency=2), worker(tasks):
        handle = await flow(add_in_thread.draft(), [inner, square.draft(10)]).enqueue()
        assert await handle.result(30) == 105
        others = await add_flows([flow(add.draft(), [square.draft(number)]) for number in (2, 3)])
        assert [await each.result(30) for each in others] == [4, 9]
        plain = await asyncio.to_thread(flow(add.draft(), [square.draft(4)]).sync.enqueue)
        assert await asyncio.to_thread(plain.result, 30) == 16
    found = await handle.tree()
    assert (found.state, found.job.return_value, len(found.children)) == ("completed", 105, 2)
    assert sorted(child.job.return_value for child in found.children) == [5, 100]
    assert (await handle.children()).pending == []
    assert await asyncio.to_thread(handle.sync.children) == await handle.children()
    seen = await asyncio.to_thread(handle.sync.tree)
    assert sorted(child.job.id for child in seen.children) == sorted(child.job.id for child in found.children)
    assert await add_flows([]) == []


@pytest.mark.parametrize(
    ("on_failure", "end"),
    [("fail_parent", "failed"), ("continue_parent", "completed"), ("ignore_dependency", "completed"),
     ("remove_dependency", "completed")],
)  # fmt: skip
async def test_what_a_childs_failure_does(
    tasks: Queue, parts: Queue, worker: StartWorker, on_failure: Any, end: str
) -> None:
    @parts.task
    async def break_down() -> None:
        raise ValueError("broken")

    @tasks.task
    async def look(job: Job = Job.current()) -> list[str]:
        return list((await job.children()).ignored.values())

    async with worker(parts), worker(tasks):
        draft = break_down.options(on_failure=on_failure, job_id="child").draft()
        handle = await flow(look.draft(), [draft]).enqueue()
        if end == "failed":
            with pytest.raises(JobFailedError, match=f"child bull:{parts.name}:child failed"):
                await handle.result(30)
            assert (await handle.children()).failed == [f"bull:{parts.name}:child"]
        else:
            assert await handle.result(30) == ([] if on_failure == "remove_dependency" else ["broken"])


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_a_running_job_adds_children_and_waits(
    tasks: Queue, parts: Queue, worker: StartWorker, is_async: bool
) -> None:
    runs: list[int] = []

    @parts.task
    async def double(number: int) -> int:
        return number * 2

    if is_async:

        @tasks.task(name="collect")
        async def collect(added: bool = False, *, job: Job = Job.current()) -> int:
            runs.append(job.attempt)
            if not added:
                for number in (1, 2):
                    await job.add_child(double.draft(number))
                await job.update_data({"added": True})
            await job.move_to_waiting_children()
            return sum((await job.children_values()).values())
    else:

        @tasks.task(name="collect")
        def collect_in_thread(added: bool = False, *, job: Job = Job.current()) -> int:
            runs.append(job.attempt)
            if not added:
                for number in (1, 2):
                    job.sync.add_child(double.draft(number))
                job.sync.update_data({"added": True})
            job.sync.move_to_waiting_children()
            assert job.sync.children().pending == []
            return sum(job.sync.children_values().values())

    async with worker(tasks):
        handle = await tasks.add("collect", {})
        await wait_until_async(lambda: _is(handle, "waiting-children"), "the parent to wait")
        async with worker(parts):
            assert await handle.result(30) == 6
    record = await handle.job()
    assert (runs, record.attempts_made, record.attempts_started) == ([1, 1], 1, 2)


async def _is(handle: Any, state: str) -> bool:
    return bool(await handle.state() == state)


async def test_a_job_that_returns_before_its_children_have_ended_fails(
    tasks: Queue, parts: Queue, worker: StartWorker
) -> None:
    @tasks.task
    async def hasty(job: Job = Job.current()) -> None:
        await job.add_child(parts.draft("n", {}, {"jobId": f"child-{job.id}"}))

    async with worker(tasks):
        handle = await hasty.enqueue()
        with pytest.raises(JobFailedError, match="has child jobs that have not ended"):
            await handle.result(30)
        again = await hasty.options(attempts=2).enqueue()
        with pytest.raises(JobFailedError):
            await again.result(30)
    assert (await again.job()).attempts_made == 2


async def test_a_job_that_returns_in_the_moment_in_which_its_child_does(tasks: Queue, worker: StartWorker) -> None:
    """Both ends go to Redis in one call, the child's first."""
    has_ended = asyncio.Event()

    @tasks.task
    async def child() -> None:
        await asyncio.sleep(0)
        has_ended.set()

    @tasks.task
    async def parent(job: Job = Job.current()) -> str:
        await job.add_child(child.draft())
        await has_ended.wait()
        return "done"

    async with worker(tasks, concurrency=2):
        assert await (await parent.enqueue()).result(30) == "done"


async def test_waiting_for_a_child_that_has_failed(tasks: Queue, parts: Queue, worker: StartWorker) -> None:
    failed = asyncio.Event()

    @parts.task(on_failure="fail_parent")
    async def break_down() -> None:
        raise ValueError("broken")

    @tasks.task
    async def wait(job: Job = Job.current()) -> None:
        child = await job.add_child(break_down.draft())
        await wait_until_async(lambda: _is(child, "failed"), "the child to fail")
        failed.set()
        await job.move_to_waiting_children()

    async with worker(parts), worker(tasks):
        handle = await wait.options(attempts=3).enqueue()
        with pytest.raises(JobFailedError, match=r"child bull:.*-parts:.* failed"):
            await handle.result(30)
    assert (failed.is_set(), (await handle.job()).attempts_made) == (True, 1)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_a_parent_goes_on_without_the_rest(
    tasks: Queue, parts: Queue, worker: StartWorker, is_async: bool
) -> None:
    """`continue_parent`: it runs while a child is pending, and removes that one to be able to complete."""

    @parts.task(on_failure="continue_parent")
    async def break_down() -> None:
        raise ValueError("broken")

    if is_async:

        @tasks.task(name="go-on")
        async def go_on(job: Job = Job.current()) -> int:
            await job.remove_unprocessed_children()
            return len((await job.children()).ignored)
    else:

        @tasks.task(name="go-on")
        def go_on_in_thread(job: Job = Job.current()) -> int:
            job.sync.remove_unprocessed_children()
            return len(job.sync.children().ignored)

    pending = parts.draft("later", {}, {"delay": 60_000})
    async with worker(parts), worker(tasks):
        handle = await flow(tasks.draft("go-on", {}), [break_down.draft(), pending]).enqueue()
        assert await handle.result(30) == 1
    assert (await handle.children()).pending == []
    assert (await parts.counts())["delayed"] == 0


async def test_a_child_of_another_job_is_refused(tasks: Queue, parts: Queue) -> None:
    child = parts.draft("n", {}, {"jobId": "child"})
    first = await flow(tasks.draft("n", {}), [child]).enqueue()
    with pytest.raises(ParentConflictError, match="job child belongs to another parent"):
        await flow(tasks.draft("n", {}), [child]).enqueue()
    assert (await first.children()).pending == [f"bull:{parts.name}:child"]


async def test_a_flow_is_on_one_redis(tasks: Queue) -> None:
    elsewhere = Queue("elsewhere", url="redis://127.0.0.1:1/0")
    with pytest.raises(errors.InvalidOptionError, match="queue 'elsewhere' is on another Redis"):
        await flow(tasks.draft("n", {}), [elsewhere.draft("n", {})]).enqueue()
    assert (await tasks.counts())["waiting-children"] == 0


# ---- jobs that ask to be run anew


@pytest.mark.parametrize("until", [0.05, timedelta(seconds=0.05), "moment"], ids=["seconds", "timedelta", "datetime"])
async def test_later(tasks: Queue, worker: StartWorker, stored: EngineQueue, until: Any) -> None:
    runs: list[int] = []

    @tasks.task
    async def snooze(job: Job = Job.current()) -> str:
        runs.append(job.attempt)
        if len(runs) < 3:
            job.move_to_delayed(datetime.now(UTC) + timedelta(seconds=2) if until == "moment" else until)
        return "done"

    async with worker(tasks):
        assert await (await snooze.enqueue()).result(30) == "done"
    assert (runs, stored.hash("1")["atm"], stored.hash("1")["ats"]) == ([1, 1, 1], "1", "3")
    assert stored.event_names().count("delayed") == 2
    assert "failedReason" not in stored.hash("1")


async def test_again_as_the_next_one(tasks: Queue, worker: StartWorker) -> None:
    runs: list[str] = []

    @tasks.default
    async def note(job: Job) -> None:
        runs.append(job.name)
        if runs.count("a") == 1:
            job.move_to_wait()

    handles = [await tasks.add(name, {}) for name in ("a", "b")]
    async with worker(tasks):
        for handle in handles:
            await handle.result(30)
    assert runs == ["a", "a", "b"]


@pytest.mark.parametrize("has_limit", [True, False], ids=["with-a-limit", "without"])
async def test_the_rate_limit_of_somebody_else(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, has_limit: bool
) -> None:
    """The worker leaves the queue alone for so long, also when it has no limit of its own."""
    runs: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()

    @tasks.default
    async def call(job: Job) -> None:
        runs.append((job.name, loop.time()))
        if len(runs) == 1:
            job.rate_limit(0.2)

    handles = [await tasks.add(name, {}) for name in ("a", "b")]
    async with worker(tasks, limiter=Limiter(100, 1000) if has_limit else None):
        for handle in handles:
            await handle.result(30)
    assert [name for name, _ in runs] == ["a", "a", "b"]
    assert runs[1][1] - runs[0][1] >= 0.19
    assert stored.hash("1")["atm"] == "1"


async def test_a_rate_limit_that_was_told_before(tasks: Queue, worker: StartWorker) -> None:
    began: list[float] = []
    loop = asyncio.get_running_loop()

    @tasks.task
    async def call() -> str:
        began.append(loop.time())
        if len(began) == 1:
            await tasks.rate_limit(0.2)
            raise RateLimitedError
        return "called"

    async with worker(tasks):
        assert await (await call.enqueue()).result(30) == "called"
    assert began[1] - began[0] >= 0.19


async def test_waiting_for_children_without_any(tasks: Queue, worker: StartWorker) -> None:
    """Asked for by name, without a look: it is run again at once."""
    runs: list[int] = []

    @tasks.task
    async def wait() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise WaitForChildrenError
        return len(runs)

    async with worker(tasks):
        assert await (await wait.enqueue()).result(30) == 2


@pytest.mark.parametrize("kind", ["delay", "waiting-children"])
async def test_what_was_asked_for_is_done_once_though_the_reply_is_lost(
    tasks: Queue, parts: Queue, worker: StartWorker, stored: EngineQueue, redis_server: RedisServer, kind: str
) -> None:
    runs: list[int] = []

    @parts.task
    async def child() -> int:
        return 7

    @tasks.task
    async def ask(job: Job = Job.current()) -> list[int]:
        runs.append(job.attempt)
        if len(runs) == 1:
            proxy.lose_reply(lambda request: f"\r\n{kind}\r\n".encode() in request)
            if kind == "delay":
                job.move_to_delayed(0.05)
            await job.add_child(child.draft())
            await job.move_to_waiting_children()
        return list((await job.children_values()).values())

    async with open_proxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/{tasks.settings.db}"
        async with worker(tasks, url=url):
            handle = await ask.enqueue()

            async def is_lost() -> bool:
                return proxy.cuts == 1

            # The child may not end before: then there would be nothing to wait for.
            await wait_until_async(is_lost, "the reply to be lost")
            async with worker(parts):
                assert await handle.result(30) == ([] if kind == "delay" else [7])
        assert proxy.cuts == 1
    record = await handle.job()
    assert (runs, record.attempts_made, record.attempts_started, record.stalled_count) == ([1, 1], 1, 2, 0)
    asked = "delayed" if kind == "delay" else "waiting-children"
    assert stored.event_names().count(asked) == 1
