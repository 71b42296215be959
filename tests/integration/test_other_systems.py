"""What four other systems on BullMQ ask of a queue, in their own options, and in ours: the same is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from support import workers
from support.engine import EngineQueue
from toril import Queue, errors, exponential, fixed, keep
from toril.client import options as enqueue_options
from toril.jobs.backoff import Backoff, retry_delay_ms

DAY_MS = 86_400_000
CHRISTMAS = datetime(2034, 12, 25, 10, tzinfo=UTC)
NOW_MS = 1_790_000_000_000

ASKED: dict[str, Any] = {
    # requirement: (BullMQ's options, ours)
    "C-08": ({"delay": int(CHRISTMAS.timestamp() * 1000) - NOW_MS}, {"run_at": CHRISTMAS}),
    "M-14": (
        {"attempts": 3, "backoff": {"type": "exponential", "delay": 2000}},
        {"attempts": 3, "backoff": exponential(2)},
    ),
    "M-15": ({"removeOnComplete": 100, "removeOnFail": 500}, {"keep_completed": 100, "keep_failed": 500}),
    "B-05": ({"delay": 300_000}, {"delay": 300}),
    "B-06": ({"priority": 1}, {"priority": 1}),
    "B-08": (
        {"delay": 1000, "attempts": 3, "backoff": {"type": "exponential", "delay": 1000}},
        {"delay": 1, "attempts": 3, "backoff": exponential(1)},
    ),
    "B-13": ({"attempts": 5, "backoff": {"type": "fixed", "delay": 1000}}, {"attempts": 5, "backoff": fixed(1)}),
    "B-17": ({"delay": 3_600_000}, {"delay": 3600}),
    "I-07": ({"delay": DAY_MS}, {"delay": 86_400}),
    "I-08": ({"attempts": 5, "priority": 1}, {"attempts": 5, "priority": 1}),
    "I-18": (
        {"attempts": 3, "backoff": {"type": "exponential", "delay": 2000}},
        {"attempts": 3, "backoff": exponential(2)},
    ),
    "I-19": ({"attempts": 5, "backoff": {"type": "fixed", "delay": 5000}}, {"attempts": 5, "backoff": fixed(5)}),
    "C-26": (
        {"removeOnComplete": {"age": 86_400}, "removeOnFail": {"age": 604_800}},
        {"keep_completed": keep(age=86_400), "keep_failed": keep(age=604_800)},
    ),
}  # fmt: skip


@pytest.fixture
async def jobs(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    async with Queue(queue_name, url=redis_url) as opened:
        yield opened


@pytest.mark.requirement(
    "C-08", "C-26", "M-14", "M-15", "B-05", "B-06", "B-08", "B-13", "B-17", "I-07", "I-08", "I-18", "I-19"
)
@pytest.mark.parametrize(("theirs", "ours"), ASKED.values(), ids=ASKED.keys())
async def test_options_in_bullmqs_words_and_in_ours(
    jobs: Queue, queue: EngineQueue, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    mine = await queue.add("n", {}, **enqueue_options.to_bullmq(ours, NOW_MS), timestamp=NOW_MS)
    stored = queue.hash(mine)
    queue.raw.flushdb()
    handle = await jobs.add("n", {"userId": "u-1"}, {**theirs, "timestamp": NOW_MS})
    assert json.loads(stored["opts"]) == json.loads(queue.hash(handle.id)["opts"])
    stored = queue.hash(handle.id)
    assert json.loads(stored["opts"]) == {"attempts": 0, **theirs, "timestamp": NOW_MS}
    delay, priority = theirs.get("delay", 0), theirs.get("priority", 0)
    assert (stored["delay"], stored["priority"]) == (str(delay), str(priority))
    if delay:
        assert queue.raw.zscore(queue.keys.delayed, handle.id) == (NOW_MS + delay) * 4096
    elif priority:
        assert queue.places() == {"prioritized": [handle.id]}
    else:
        assert queue.places() == {"wait": [handle.id]}


@pytest.mark.requirement("B-08", "B-13", "I-18", "I-19", "M-14")
@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Backoff("exponential", 1000), [1, 2, 4, 8, 16]),
        (Backoff("exponential", 2000), [2, 4, 8]),
        (Backoff("fixed", 1000), [1, 1, 1, 1, 1]),
        (Backoff("fixed", 5000), [5, 5, 5, 5, 5]),
    ],
)
def test_pauses(backoff: Backoff, seconds: list[int]) -> None:
    pauses = [retry_delay_ms(backoff, attempt, lambda: 0.5) for attempt in range(1, len(seconds) + 1)]
    assert pauses == [second * 1000 for second in seconds]


@pytest.mark.requirement("B-12")
async def test_a_callers_options_go_before_the_queues_defaults(redis_url: str, queue: EngineQueue) -> None:
    async with Queue(queue.keys.queue, url=redis_url, attempts=3, backoff=exponential(1)) as images:
        usual = await images.add("resize", {})
        other = await images.add("resize", {}, {"attempts": 1})
    backoff = {"type": "exponential", "delay": 1000}
    assert json.loads(queue.hash(usual.id)["opts"]) == {"attempts": 3, "backoff": backoff}
    assert json.loads(queue.hash(other.id)["opts"]) == {"attempts": 1, "backoff": backoff}


@pytest.mark.requirement("I-06", "I-17", "B-06")
async def test_priorities_by_number(jobs: Queue, queue: EngineQueue) -> None:
    """Critical 1, high 2, normal 3, low 4, background 5: the lowest number runs first."""
    for priority in (3, 5, 1, 4, 2, 1):
        await jobs.add(f"at-{priority}", {}, {"priority": priority})
    assert [job.name for job in await queue.take(6)] == ["at-1", "at-1", "at-2", "at-3", "at-4", "at-5"]


@pytest.mark.requirement("B-07", "I-25")
@pytest.mark.parametrize(
    "data",
    [
        {"type": "expired_sessions"},
        {"type": "old_logs", "daysOld": 30},
        {"userId": "u-1", "filename": "Überblick.pdf", "uploadedAt": "2026-01-31T12:00:00.000Z"},
    ],
    ids=lambda data: next(iter(data.values())),
)
async def test_data_arrives_as_it_was_given(jobs: Queue, queue: EngineQueue, data: dict[str, Any]) -> None:
    await jobs.add("process-uploaded-file", data)
    job = await queue.take_one()
    assert (job.name, job.data) == ("process-uploaded-file", data)


@pytest.mark.requirement("I-26")
async def test_data_beyond_the_limit_is_refused(jobs: Queue, queue: EngineQueue) -> None:
    with pytest.raises(errors.TorilError, match="sizeLimit"):
        await jobs.add("upload", {"file": "x" * 2000}, {"sizeLimit": 1000})
    assert queue.places() == {}


EMAILS = """
import os, pathlib
from toril import Job, Queue

queue = Queue(os.environ["TORIL_QUEUE"])
sent = pathlib.Path(os.environ["TEST_TRACE"]).parent

@queue.default
async def run(job: Job):
    await job.log("started")
    note = sent / f"sent-{job.id}"
    if note.exists():
        return {"skipped": True}
    note.touch()
    if job.data.get("fails"):
        raise ValueError("no mail server")
    await job.progress(100)
    return {"success": True, "processedAt": "2026-01-31T12:00:00Z"}
"""


@pytest.mark.requirement("B-10", "B-20", "B-21")
async def test_a_processor_that_runs_again_without_harm(redis_url: str, jobs: Queue, queue: EngineQueue) -> None:
    """The job's id tells a second run; what was returned, logged and raised is there to be seen."""
    with workers.start(redis_url, jobs.name, EMAILS, concurrency=5) as worker:
        mail = await jobs.add("resize", {"width": 10})
        assert await mail.result(60) == {"success": True, "processedAt": "2026-01-31T12:00:00Z"}
        assert (await mail.job()).progress == 100
        await mail.retry("completed")
        assert await mail.result(60) == {"skipped": True}
        again = await jobs.add("resize", {"fails": True}, {"attempts": 2})
        assert await again.result(60) == {"skipped": True}
        broken = await jobs.add("resize", {"fails": True})
        with pytest.raises(errors.JobFailedError, match="no mail server"):
            await broken.result(60)
        assert list((await mail.logs()).rows) == ["started", "started"]
        _, metrics = await asyncio.to_thread(worker.get, "/metrics")
    assert f'toril_job_run_seconds_count{{job_name="resize",outcome="completed",queue="{jobs.name}"}} 3.0' in metrics
    told = [(event["event"], event.get("jobId")) for event in queue.events()]
    assert (told.count(("completed", mail.id)), told.count(("failed", broken.id))) == (2, 1)


@pytest.mark.requirement("B-11")
async def test_workers_of_several_queues_end_side_by_side(redis_url: str, queue_name: str) -> None:
    started = [workers.spawn(redis_url, f"{queue_name}-{number}", EMAILS) for number in range(2)]
    try:
        for worker in started:
            worker.wait_ready()
        for worker in started:
            worker.signal()
        assert [worker.wait() for worker in started] == [0, 0]
    finally:
        for worker in started:
            worker.close()
