"""Jobs whose stored fields make no sense, placed by hand: each fails with a reason or is dropped, the others run."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
import redis

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue
from toril.engine.maintenance import recover_stalled
from toril.jobs.job import JobState
from toril.jobs.outcome import Finish

pytestmark = pytest.mark.requirement("T83")

SOUND = {"name": "greet", "data": '{"to":"me"}', "opts": "{}", "timestamp": "1000", "delay": "0", "priority": "0"}


def place(stored: EngineQueue, job_id: str, *, without: str = "", **fields: str) -> None:
    """Put a job into `wait`, as a foreign hand might."""
    content = {name: value for name, value in {**SOUND, **fields}.items() if name != without}
    stored.raw.hset(stored.keys.job(job_id), mapping=content)
    stored.raw.lpush(stored.keys.wait, job_id)


@pytest.fixture
def greetings(tasks: Queue) -> Queue:
    @tasks.task
    async def greet(to: str) -> str:
        return f"hello {to}"

    @tasks.task
    async def raw(*, job: Job = Job.current()) -> Any:
        return job.data

    return tasks


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"data": "not json"}, "data: is not JSON"),
        ({"data": "[" * 100_000}, "data: is not JSON"),
        ({"data": "\x80 no text"}, "data: is not JSON"),
        ({"without": "data"}, "data.to: is missing"),
        ({"data": "null"}, "data: must be an object"),
        ({"without": "name"}, "no task ''"),
        ({"name": "nobody's"}, 'no task "nobody\'s"'),
        ({"name": "raw", "data": "not json"}, "not JSON"),
    ],
)
async def test_it_fails_and_says_why(
    greetings: Queue, worker: StartWorker, stored: EngineQueue, how: dict[str, str], words: str
) -> None:
    place(stored, "bad", **how)
    sound = await greetings.add("greet", {"to": "you"})
    async with worker(greetings):
        assert await sound.result(30) == "hello you"
        with pytest.raises(JobFailedError, match=words):
            await greetings.handle("bad").result(30)
    assert stored.places() == {"completed": ["1"], "failed": ["bad"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"opts": "not json"},
        {"opts": "[" * 100_000},
        {"opts": '{"attempts":"many","backoff":[],"removeOnComplete":"x"}'},
        {"opts": '{"attempts":1e999,"backoff":1e999,"removeOnComplete":1e999,"delay":1e999,"stackTraceLimit":1e999}'},
        {"opts": '{"removeOnComplete":{"age":1e999}}'},
        {"opts": '{"removeOnComplete":{"age":1e300}}'},
        {"opts": '{"removeOnComplete":{"age":1,"limit":1e300}}'},
        {"atm": "soon"},
        {"atm": "inf"},
        {"ats": "nan"},
        {"stc": "x"},
        {"timestamp": "yesterday"},
        {"timestamp": "1e999"},
        {"priority": "nan"},
        {"delay": "later"},
        {"stacktrace": "{"},
        {"progress": "{"},
    ],
    ids=str,
)
async def test_what_is_not_needed_counts_as_not_there(
    greetings: Queue, worker: StartWorker, stored: EngineQueue, fields: dict[str, str]
) -> None:
    place(stored, "odd", **fields)
    sound = await greetings.add("greet", {"to": "you"})
    async with worker(greetings):
        assert await sound.result(30) == "hello you"
        assert await greetings.handle("odd").result(30) == "hello me"
    assert (stored.hash("odd")["atm"], stored.hash("odd")["ats"]) == ("1", "1")


@pytest.mark.parametrize("stored_traces", ['["cut \\ud83d"]', "[" * 100_000, '[{"a":1}]', "[" * 900 + "]" * 900])
async def test_earlier_stack_traces_keep_no_job_from_failing(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, stored_traces: str
) -> None:
    """JavaScript cuts texts within a character, and writes that as half a character that is no text here."""

    @tasks.task
    async def greet(to: str) -> str:
        raise ValueError("no")

    place(stored, "odd", stacktrace=stored_traces, atm="1", ats="1")
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="no"):
            await tasks.handle("odd").result(30)


async def test_an_id_that_is_no_text(
    greetings: Queue, worker: StartWorker, stored: EngineQueue, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as raw:
        job_key = stored.keys.base.encode() + b"\xff:\xfe"
        raw.hset(job_key, mapping=SOUND)
        raw.lpush(stored.keys.wait, b"\xff:\xfe")
        sound = await greetings.add("greet", {"to": "you"})
        async with worker(greetings, lock_ms=1000, lock_renew_ms=50):
            assert await sound.result(30) == "hello you"
        assert raw.hget(job_key, "returnvalue") == b'"hello me"'
        assert set(raw.zrange(stored.keys.completed, 0, -1)) == {b"\xff:\xfe", b"1"}


async def test_what_is_no_job_is_dropped(greetings: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    stored.raw.set(stored.keys.job("text"), "no hash")
    stored.raw.lpush(stored.keys.wait, "text", "nothing")
    sound = await greetings.add("greet", {"to": "you"})
    async with worker(greetings):
        assert await sound.result(30) == "hello you"
    assert stored.places() == {"completed": ["1"]}
    assert stored.raw.get(stored.keys.job("text")) == "no hash"


async def test_its_attempts_are_counted_and_come_to_an_end(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def breaks() -> None:
        raise ValueError("as planned")

    place(stored, "bad", name="breaks", data="{}", opts='{"attempts":3}', atm="inf", priority="nan")
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="as planned"):
            await tasks.handle("bad").result(30)
    assert stored.hash("bad")["atm"] == "3"


@pytest.mark.parametrize("priority", ["nan", "inf", "-inf", "x", "-1"])
async def test_delayed_ones_are_promoted_or_dropped(queue: EngineQueue, priority: str) -> None:
    for job_id in ("text", "odd"):
        queue.raw.zadd(queue.keys.delayed, {job_id: 1})
    queue.raw.set(queue.keys.job("text"), "no hash")
    queue.raw.hset(queue.keys.job("odd"), mapping={**SOUND, "priority": priority})
    sound = await queue.add()
    assert {job.id for job in await queue.take(5)} == {"odd", sound}
    assert queue.places() == {"active": [sound, "odd"]}


async def test_a_due_time_without_end_is_waited_for_as_if_there_were_none(queue: EngineQueue) -> None:
    queue.raw.zadd(queue.keys.delayed, {"never": "inf"})
    taken = await queue.active.take(1, queue.token())
    assert (taken.jobs, taken.next_due_ms) == ([], 0)
    assert (await queue.inspector.signals()).next_due_ms is None


async def test_the_stalled_check_goes_on(queue: EngineQueue) -> None:
    for job_id in ("odd", "sound"):
        queue.raw.hset(queue.keys.job(job_id), mapping={**SOUND, "stc": "x" if job_id == "odd" else "0"})
        queue.raw.rpush(queue.keys.active, job_id)
    queue.raw.rpush(queue.keys.active, "text")
    queue.raw.set(queue.keys.job("text"), "no hash")
    recovered: list[str] = []
    for _ in range(2):
        queue.raw.delete(queue.keys.stalled_check)
        recovered += await recover_stalled.run_once(queue.connection, queue.keys)
    assert set(recovered) == {"odd", "sound"}
    assert queue.hash("odd")["stc"] == "1"
    assert set(queue.places()["wait"]) == {"odd", "sound"}


@pytest.mark.parametrize("fields", [{"timestamp": "yesterday"}, {"timestamp": "1e999"}, {"timestamp": "nan"}, None])
async def test_the_queue_and_its_neighbours_are_still_counted(
    queue: EngineQueue, fields: dict[str, str] | None
) -> None:
    if fields is None:
        queue.raw.set(queue.keys.job("bad"), "no hash")
    else:
        queue.raw.hset(queue.keys.job("bad"), mapping={**SOUND, **fields})
    queue.raw.rpush(queue.keys.wait, "bad")
    await queue.add()
    found = await queue.inspector.signals()
    assert (found.waiting, found.oldest_waiting_ms) == (2, None)
    listed = [job.id for job in await queue.inspector.jobs(JobState.WAITING)]
    assert listed == (["bad", "1"] if fields else ["1"])


async def test_its_end_is_recorded(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.job("odd"), mapping={**SOUND, "atm": "inf", "priority": "nan"})
    queue.raw.lpush(queue.keys.wait, "odd")
    job = await queue.take_one()
    await queue.finish(Finish.retry(job, "once more", "[]", 0))
    assert queue.hash("odd")["atm"] == "1"
    job = await queue.take_one()
    assert job.attempts_made == 1
    await queue.finish(Finish.completed(job, "null"))
    assert queue.places() == {"completed": ["odd"]}


async def test_limits_that_are_no_numbers_are_survived_and_told_once(
    greetings: Queue, worker: StartWorker, stored: EngineQueue, caplog: pytest.LogCaptureFixture
) -> None:
    stored.raw.hset(stored.keys.meta, mapping={"concurrency": "x", "max": "nan"})
    words = "limits of the queue are no numbers above 0: concurrency, max in `meta`"
    caplog.set_level(logging.INFO, "toril.worker")
    async with worker(greetings, stalled_interval_ms=100):
        await wait_until_async(lambda: _is_told(caplog, words), "the limits to be told")
        assert await (await greetings.add("greet", {"to": "me"})).result(30) == "hello me"
        stored.raw.hdel(stored.keys.meta, "concurrency", "max")
        await wait_until_async(lambda: _is_told(caplog, "can be read again"), "their end to be told")
    assert caplog.text.count(words) == 1


async def _is_told(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


@pytest.mark.parametrize(
    ("stored_attempts", "attempts"),
    [("1.7976931348623157e+308", sys.float_info.max), ("1e999", sys.float_info.max), ("2.5", 3), ('"3"', 3)],
)
async def test_a_job_knows_how_often_it_may_be_tried_whatever_number_says_it(
    tasks: Queue, stored: EngineQueue, worker: StartWorker, stored_attempts: str, attempts: int
) -> None:
    seen: list[float] = []

    @tasks.task
    async def step(*, job: Job = Job.current()) -> float:
        seen.append(job.attempts)
        if job.attempt < 3:
            raise ValueError("again")
        return job.attempts

    opts = f'{{"attempts":{stored_attempts},"keepLogs":1e308}}'
    place(stored, "a", name="step", data="{}", opts=opts)
    async with worker(tasks):
        assert await tasks.handle("a").result(30) == attempts
    assert seen == [attempts] * 3
