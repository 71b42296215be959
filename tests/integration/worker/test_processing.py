"""Jobs are run as their tasks say, and what becomes of them is stored."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue


async def test_functions_of_every_kind_complete(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def waits(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    @tasks.task
    async def does_not_wait(number: int) -> int:
        return number + 1

    @tasks.task
    def in_thread(number: int) -> str:
        return threading.current_thread().name

    @tasks.task(inline=True)
    def inline(number: int) -> str:
        return threading.current_thread().name

    async with worker(tasks, concurrency=4):
        assert await (await waits.enqueue(1)).result(30) == 2
        assert await (await does_not_wait.enqueue(1)).result(30) == 2
        assert (await (await in_thread.enqueue(1)).result(30)).startswith("toril-job")
        assert await (await inline.enqueue(1)).result(30) == threading.main_thread().name
    fields = stored.hash("1")
    assert (fields["returnvalue"], fields["atm"], fields["ats"]) == ("2", "1", "1")
    assert fields["pb"].startswith("worker-")
    assert stored.places() == {"completed": ["1", "2", "3", "4"]}
    assert stored.raw.keys(stored.keys.base + "*:lock") == []


async def test_a_batch_runs_beside_a_job_that_waits(tasks: Queue, worker: StartWorker) -> None:
    go = asyncio.Event()
    seen: list[int] = []

    @tasks.task
    async def step(number: int) -> None:
        if number == 2:
            await go.wait()
        seen.append(number)
        if number == 5:
            go.set()

    handles = await tasks.add_bulk([step.draft(number) for number in range(1, 6)])
    async with worker(tasks, concurrency=5):
        for handle in handles:
            await handle.result(30)
    assert seen == [1, 3, 4, 5, 2]


class Slots:
    """Counts jobs that run at the same time. The first ones stay until `wanted` run, so that the most is sure."""

    def __init__(self, wanted: int) -> None:
        self.most = 0
        self._running = 0
        self._wanted = wanted
        self._filled = asyncio.Event()

    async def use(self) -> None:
        self._running += 1
        self.most = max(self.most, self._running)
        if self._running == self._wanted:
            self._filled.set()
        await self._filled.wait()
        await asyncio.sleep(0.001)
        self._running -= 1


async def test_no_more_run_than_the_concurrency_allows(tasks: Queue, worker: StartWorker) -> None:
    slots = Slots(7)

    @tasks.task
    async def step() -> None:
        await slots.use()

    handles = await tasks.add_bulk([step.draft() for _ in range(100)])
    async with worker(tasks, concurrency=7):
        await asyncio.gather(*(handle.result(60) for handle in handles))
    assert slots.most == 7


async def test_a_busy_workers_calls_carry_many_jobs(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def step() -> None: ...

    def calls() -> int:
        stats = stored.raw.info("commandstats")
        return sum(stats[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "eval") if f"cmdstat_{name}" in stats)

    async def all_done() -> bool:
        return int(stored.raw.zcard(stored.keys.completed)) == 200

    await tasks.add_bulk([step.draft() for _ in range(200)])
    before = calls()
    async with worker(tasks, concurrency=50):
        await wait_until_async(all_done, "all jobs")
    # Eight takes of 25, the last finishes, looks at the empty queue, and a script that the server did not know.
    assert calls() - before <= 30


async def test_each_run_has_a_context_of_its_own(tasks: Queue, worker: StartWorker) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @tasks.task
    async def step(name: str) -> list[str]:
        before = user.get()
        user.set(name)
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return [before, user.get(), Job.current().id]

    handles = await tasks.add_bulk([step.draft(name) for name in "abc"])
    async with worker(tasks, concurrency=3):
        assert [await handle.result(30) for handle in handles] == [
            ["nobody", "a", "1"], ["nobody", "b", "2"], ["nobody", "c", "3"],
        ]  # fmt: skip


async def test_progress_log_and_data(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def talks(to: str, *, job: Job = Job.current()) -> int:
        await job.progress({"percent": 50})
        await job.update_data({"to": "changed"})
        return await job.log("first")

    @tasks.task
    def talks_in_thread(*, job: Job = Job.current()) -> int:
        job.sync.progress(99)
        job.sync.log("first")
        return job.sync.log("second")

    async with worker(tasks):
        assert await (await talks.enqueue("a")).result(30) == 1
        assert await (await talks_in_thread.enqueue()).result(30) == 2
    assert stored.hash("1")["progress"] == '{"percent":50}'
    assert stored.hash("1")["data"] == '{"to":"changed"}'
    assert stored.hash("2")["progress"] == "99"
    assert stored.raw.lrange(stored.keys.logs("2"), 0, -1) == ["first", "second"]


@pytest.mark.requirement("Z-43")
async def test_order_of_lifo_and_priorities(tasks: Queue, worker: StartWorker) -> None:
    seen: list[str] = []

    @tasks.task
    async def step(name: str) -> None:
        seen.append(name)

    handles = [
        await step.options(priority=9).enqueue("9"),
        await step.options(priority=2).enqueue("2"),
        await step.enqueue("plain"),
        await step.options(lifo=True).enqueue("lifo"),
    ]
    async with worker(tasks):
        for handle in handles:
            await handle.result(30)
    assert seen == ["lifo", "plain", "2", "9"]


async def test_delayed_jobs_start_when_they_are_due(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def step() -> None: ...

    async with worker(tasks, idle_poll_seconds=60):
        handles = [await step.options(delay=0.2).enqueue(), await step.options(delay=0.1).enqueue()]
        for handle in handles:
            await handle.result(30)
    for job_id, delay_ms in (("1", 200), ("2", 100)):
        fields = stored.hash(job_id)
        late_ms = int(fields["processedOn"]) - int(fields["timestamp"]) - delay_ms
        assert 0 <= late_ms < 9000, "not before its time, and not when an idle worker looks anyway, after 10 s"


async def test_a_job_nobody_knows_fails_at_once_and_says_its_name(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task
    async def known() -> None: ...

    async with worker(tasks):
        handle = await tasks.add("unknown", {}, {"attempts": 5})
        with pytest.raises(JobFailedError, match="no task 'unknown' and no default; its tasks are known"):
            await handle.result(30)


async def test_the_default_gets_what_no_task_has(tasks: Queue, worker: StartWorker) -> None:
    @tasks.default
    async def rest(job: Job) -> Any:
        return [job.name, job.data]

    async with worker(tasks):
        assert await (await tasks.add("legacy", [1])).result(30) == ["legacy", [1]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "data.to: is missing"),
        ({"to": 1}, "data.to: must be text"),
        (["a"], "data: must be an object with to"),
    ],
)
async def test_data_that_does_not_fit_fails_at_once(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, data: Any, words: str
) -> None:
    @tasks.task
    async def send(to: str) -> None: ...

    async with worker(tasks):
        handle = await tasks.add("send", data, {"attempts": 5})
        with pytest.raises(JobFailedError, match=words):
            await handle.result(30)
    assert stored.hash("1")["atm"] == "1"


async def test_fields_that_a_function_has_no_parameter_for_are_left_out(
    tasks: Queue, worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer may add a field before all workers know it."""

    @tasks.task
    async def send(to: str, *, job: Job = Job.current()) -> Any:
        return [to, job.data]

    @tasks.task
    def in_thread(to: str) -> str:
        return to

    data = {"to": "a", "cc": "b", "job": 5}
    with caplog.at_level(logging.DEBUG, "toril.worker"):
        async with worker(tasks):
            assert await (await tasks.add("send", data)).result(30) == ["a", data]
            assert await (await tasks.add("in-thread", data)).result(30) == "a"
    lines = [record.message for record in caplog.records if "left out" in record.message]
    assert lines == ["job 1 send: left out of its data: cc, job", "job 2 in-thread: left out of its data: cc, job"]


async def test_a_strict_task_refuses_fields_that_it_does_not_know(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task(strict=True)
    async def send(to: str) -> None: ...

    async with worker(tasks):
        with pytest.raises(JobFailedError, match=r"data\.cc: is unknown; known are to"):
            await (await tasks.add("send", {"to": "a", "cc": "b"})).result(30)


@pytest.mark.requirement("T16")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "return value: is nan, which JSON does not have"),
        ({"when": object()}, "return value.when: is a object, which is not JSON"),
        (["ok", "\ud800"], r"return value\[1\]: holds a lone surrogate"),
        (2**60, "return value: is an integer beyond"),
        ({"counts": {1: "a"}}, "return value.counts: has the key 1, of type int"),
    ],
)
async def test_a_return_value_that_is_not_json_fails_the_job(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, value: Any, words: str
) -> None:
    @tasks.task
    async def bad() -> Any:
        return value

    @tasks.task
    async def good() -> str:
        return "fine"

    async with worker(tasks):
        handle = await bad.options(attempts=3).enqueue()
        with pytest.raises(JobFailedError, match=words):
            await handle.result(30)
        assert await (await good.enqueue()).result(30) == "fine"
    assert stored.hash("1")["ats"] == "1", "the work was done: it is not done again for the same value"


async def test_stored_traces_begin_with_the_users_function(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def breaks() -> None:
        await asyncio.sleep(0)
        raise ValueError("as planned")

    @tasks.task
    def breaks_in_thread() -> None:
        raise ValueError("as planned")

    async with worker(tasks):
        for task in (breaks, breaks_in_thread):
            handle = await task.enqueue()
            with pytest.raises(JobFailedError, match="as planned") as caught:
                await handle.result(30)
            (trace,) = caught.value.stacktrace
            lines = trace.splitlines()
            assert lines[0] == "Traceback (most recent call last):"
            assert __file__ in lines[1]
            assert lines[-1] == "ValueError: as planned"
            assert "toril/worker" not in trace


async def test_an_idle_worker_starts_jobs_as_they_come(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def step() -> None: ...

    async with worker(tasks, concurrency=3, idle_poll_seconds=60):
        for _ in range(20):
            await (await step.enqueue()).result(30)
        names = [client["name"] for client in stored.raw.client_list()]
        assert any(name.startswith(stored.keys.client_name(":w:worker-")) for name in names)


async def test_a_wake_up_that_finds_no_free_slot_is_passed_on(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    """Worker A waits for the wake-up longest, and fills its slots by the call that ends a job: B must be woken."""
    started: dict[str, str | None] = {}
    gates = {"first": asyncio.Event(), "rest": asyncio.Event()}

    @tasks.task
    async def step(gate: str, *, job: Job = Job.current()) -> None:
        started[job.id] = job.record.processed_by
        await gates[gate].wait()

    async def all_run() -> bool:
        return len(started) == 4

    await step.enqueue("first")
    async with worker(tasks, name="A", concurrency=2, idle_poll_seconds=60):
        await wait_until_async(lambda: waits_for_wake_up(stored, 1), "A to run one job and wait for another")
        async with worker(tasks, name="B", idle_poll_seconds=60):
            await wait_until_async(lambda: waits_for_wake_up(stored, 2), "B to wait")
            # Jobs that nobody is woken for: added while the queue was paused, which it then is not any more.
            stored.raw.hset(stored.keys.meta, "paused", 1)
            for _ in range(3):
                await step.enqueue("rest")
            stored.raw.hdel(stored.keys.meta, "paused")
            gates["first"].set()
            await wait_until_async(all_run, "A to take two jobs and B the third")
            gates["rest"].set()
    assert started == {"1": "A", "2": "A", "3": "A", "4": "B"}


async def waits_for_wake_up(stored: EngineQueue, workers: int) -> bool:
    """Whether so many connections block, with no wake-up left that could end that."""
    blocked = stored.raw.info("clients")["blocked_clients"]
    return blocked == workers and not stored.raw.exists(stored.keys.marker)


async def test_two_workers_share_what_comes(tasks: Queue, worker: StartWorker) -> None:
    started: list[str] = []
    go = asyncio.Event()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        started.append(job.record.processed_by or "")
        await go.wait()

    async def both_run() -> bool:
        return len(started) == 2

    async with worker(tasks, idle_poll_seconds=60), worker(tasks, idle_poll_seconds=60):
        for _ in range(10):
            started.clear()
            go.clear()
            handles = [await step.enqueue(), await step.enqueue()]
            await wait_until_async(both_run, "both workers to have a job")
            assert len(set(started)) == 2
            go.set()
            for handle in handles:
                await handle.result(30)


async def test_a_job_that_ends_as_the_drain_begins_is_recorded(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    go = asyncio.Event()

    @tasks.task
    async def step() -> None:
        await go.wait()

    await step.enqueue()
    async with worker(tasks, concurrency=2, idle_poll_seconds=60) as running:
        await wait_until_async(lambda: waits_for_wake_up(stored, 1), "the worker to run it and wait for another")
        running.stop()
        go.set()
    assert stored.places() == {"completed": ["1"]}


async def test_a_paused_queue_is_left_alone(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task
    async def step() -> str:
        return "ran"

    await tasks.pause()
    async with worker(tasks, idle_poll_seconds=0.05):
        handle = await step.enqueue()
        delayed = await step.options(delay=0.05).enqueue()

        async def is_promoted() -> bool:
            return await delayed.state() == "waiting"

        await wait_until_async(is_promoted, "the delayed job to be promoted")
        assert await handle.state() == "waiting"
        await tasks.resume()
        assert await handle.result(30) == "ran"


async def test_a_rate_limit_is_kept(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task
    async def step() -> None: ...

    stored.raw.hset(stored.keys.meta, mapping={"max": 2, "duration": 300})
    handles = await tasks.add_bulk([step.draft() for _ in range(5)])
    async with worker(tasks, concurrency=5):
        for handle in handles:
            await handle.result(30)
    starts = sorted(int(stored.hash(handle.id)["processedOn"]) for handle in handles)
    assert starts[2] - starts[0] >= 290
    assert starts[4] - starts[2] >= 290


async def test_the_queues_own_concurrency_is_kept(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    slots = Slots(2)

    @tasks.task
    async def step() -> None:
        await slots.use()

    stored.raw.hset(stored.keys.meta, "concurrency", 2)
    handles = await tasks.add_bulk([step.draft() for _ in range(20)])
    async with worker(tasks, concurrency=5), worker(tasks, concurrency=5):
        await asyncio.gather(*(handle.result(60) for handle in handles))
    assert slots.most == 2


async def test_retention_of_the_job_and_of_the_worker(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    from toril.jobs.retention import KeepPolicy

    @tasks.task
    async def step() -> None: ...

    async with worker(tasks, keep_completed=KeepPolicy(count=2)):
        for _ in range(4):
            await (await step.enqueue()).result(30)
        await (await tasks.add("step", {}, {"removeOnComplete": True})).result(30)
    assert stored.places() == {"completed": ["3", "4"]}


async def test_of_large_jobs_fewer_are_taken_at_a_time(tasks: Queue, worker: StartWorker) -> None:
    """A reply of hundreds of megabytes would not come in time, and the jobs in it would count as stalled."""

    @tasks.task
    async def measure(text: str) -> int:
        return len(text)

    async with worker(tasks, concurrency=200) as running:
        assert running._fetcher._pipeline._take_at_most == 100
        assert await (await measure.enqueue("x" * 4_000_000)).result(30) == 4_000_000
        assert running._fetcher._pipeline._take_at_most == 4
        assert await (await measure.enqueue("x")).result(30) == 1
        assert running._fetcher._pipeline._take_at_most == 100
