"""Pauses of the user's own between attempts, and what is called when there are no more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Backoff, Job, JobFailedError, Queue, Unrecoverable, errors
from toril.worker import hooks


@pytest.mark.requirement("I-20")
async def test_pauses_of_the_users_own(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.backoff
    def pause(attempts_made: int, error: BaseException, job: object) -> float | None:
        return None if "give up" in str(error) else attempts_made * 0.002

    @tasks.task(attempts=4, backoff=Backoff("custom", 0))
    async def work(words: list[str], *, job: Job = Job.current()) -> int:
        if job.attempt <= len(words):
            raise ValueError(words[job.attempt - 1])
        return job.attempt

    async with worker(tasks):
        assert await (await work.enqueue(["a", "b", "c"])).result(30) == 4
        with pytest.raises(JobFailedError, match="give up"):
            await (await work.enqueue(["a", "give up"])).result(30)
    assert (stored.hash("1")["delay"], stored.hash("2")["atm"]) == ("0", "2")
    assert stored.event_names().count("delayed") == 4
    assert stored.event_names().count("retries-exhausted") == 0


@pytest.mark.requirement("B-14", "I-12", "X-24", "T13")
async def test_the_hook_is_called_once_after_the_last_attempt(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    told: list[tuple[str, int, str, str]] = []
    threads: list[str] = []

    @tasks.on_exhausted
    async def notify(job: Job, error: BaseException) -> None:
        # The failure is recorded before anybody is told of it.
        told.append((job.name, job.attempt, str(error), stored.hash(job.id)["failedReason"]))

    @tasks.on_exhausted
    def notify_in_a_thread(job: Job, error: BaseException) -> None:
        threads.append(threading.current_thread().name)
        raise RuntimeError("harms nobody")

    @tasks.task(attempts=3)
    async def fails() -> None:
        raise ValueError("no")

    @tasks.task(attempts=3)
    async def is_hopeless() -> None:
        raise Unrecoverable("hopeless")

    @tasks.task(attempts=3)
    async def recovers(*, job: Job = Job.current()) -> None:
        if job.attempt < 3:
            raise ValueError("not yet")

    async with worker(tasks):
        handles = [await fails.enqueue(), await is_hopeless.enqueue(), await recovers.enqueue()]
        await asyncio.gather(*(handle.result(30) for handle in handles), return_exceptions=True)
    # A worker that ends waits for them.
    assert sorted(told) == [("fails", 3, "no", "no"), ("is-hopeless", 1, "hopeless", "hopeless")]
    assert len(threads) == 2
    assert threading.main_thread().name not in threads


def test_one_strategy_a_queue_and_a_plain_one() -> None:
    queue = Queue("a")

    async def waits(attempts_made: int, error: BaseException, job: object) -> float:
        return 1

    with pytest.raises(errors.InvalidOptionError, match="must be a plain function"):
        queue.backoff(waits)  # type: ignore[type-var]
    queue.backoff(lambda *_: 1)
    with pytest.raises(errors.InvalidOptionError, match="has a backoff strategy already"):
        queue.backoff(lambda *_: 1)


async def test_hooks_that_do_not_keep_up_are_left_out_rather_than_piled_up(
    tasks: Queue, worker: StartWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "MAX_WAITING", 3)
    may_end = asyncio.Event()
    told: list[str] = []

    @tasks.on_exhausted
    async def notify(job: Job, error: BaseException) -> None:
        await may_end.wait()
        told.append(job.id)

    @tasks.task
    async def fails() -> None:
        raise ValueError("no")

    async with worker(tasks):
        handles = [await fails.enqueue() for _ in range(5)]
        await asyncio.gather(*(handle.result(30) for handle in handles), return_exceptions=True)

        async def are_left_out() -> bool:
            return caplog.text.count("on_exhausted is not called") == 2

        # Callers hear of a job's end before its worker does.
        await wait_until_async(are_left_out, "two to be left out")
        may_end.set()
    assert len(told) == 3


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "problem", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration()], ids=repr
)
async def test_whatever_a_hook_raises_harms_nobody(
    tasks: Queue, worker: StartWorker, caplog: pytest.LogCaptureFixture, problem: BaseException, is_async: bool
) -> None:
    told: list[str] = []

    async def raises(job: Job, error: BaseException) -> None:
        raise problem

    def raises_in_a_thread(job: Job, error: BaseException) -> None:
        raise problem

    tasks.on_exhausted(raises if is_async else raises_in_a_thread)

    @tasks.on_exhausted
    async def notify(job: Job, error: BaseException) -> None:
        told.append(job.id)

    @tasks.task
    async def fails() -> None:
        raise ValueError("no")

    async with worker(tasks):
        handle = await fails.enqueue()
        with pytest.raises(JobFailedError):
            await handle.result(30)
    assert told == [handle.id]
    assert caplog.text.count("a function of on_exhausted failed") == 1


async def test_a_hook_may_be_an_object_that_is_called(tasks: Queue, worker: StartWorker) -> None:
    told: list[str] = []

    class Notifies:
        async def __call__(self, job: Job, error: BaseException) -> None:
            await asyncio.sleep(0)
            told.append(str(error))

    tasks.on_exhausted(Notifies())

    @tasks.task
    async def fails() -> None:
        raise ValueError("no")

    async with worker(tasks):
        with pytest.raises(JobFailedError):
            await (await fails.enqueue()).result(30)
    assert told == ["no"]
