"""A job too large to be received: it is failed unread, and those beside it run."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Queue

MIB = 1024 * 1024


async def test_a_job_larger_than_a_reply_is_failed_at_once_and_others_run(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    seen: list[str] = []

    @tasks.default
    async def note(job: Any) -> int:
        seen.append(job.id)
        return len(job.data["x"])

    for name, size in (("small", 10), ("large", 6 * MIB), ("medium", MIB // 2)):
        await stored.add("job", {"x": "A" * size}, jobId=name, attempts=3)

    async def all_have_ended() -> bool:
        return sum(len(stored.places().get(state, [])) for state in ("completed", "failed")) == 3

    async with worker(tasks, concurrency=5, max_job_bytes=MIB) as running:
        # Before it connects: replies of hundreds of megabytes would be too much for a test.
        running._connection._max_reply_bytes = 4 * MIB
        await wait_until_async(all_have_ended, "all jobs to end", timeout_seconds=60)
    assert sorted(seen) == ["medium", "small"]
    assert sorted(stored.places()["completed"]) == ["medium", "small"]
    assert stored.places()["failed"] == ["large"]
    large = stored.hash("large")
    assert (large["atm"], large["ats"]) == ("1", "1")
    size = sum(len(value) for field, value in large.items() if field in ("name", "data", "opts"))
    told, limit = [int(word) for word in large["failedReason"].split() if word.isdigit()]
    assert (size < told < size + 200, limit) == (True, MIB)
    assert "defa" not in large


@pytest.mark.parametrize("kind", ["new", "retried", "of a scheduler", "with a large stacktrace"])
async def test_a_large_job_of_any_kind_is_taken_without_its_large_fields(stored: EngineQueue, kind: str) -> None:
    await stored.add("job", {"x": "A" * (10 if kind == "with a large stacktrace" else MIB)}, jobId="large")
    extra = {
        "new": {}, "retried": {"atm": "1", "ats": "1"}, "of a scheduler": {"rjk": "daily"},
        "with a large stacktrace": {"stacktrace": "A" * MIB},
    }[kind]  # fmt: skip
    if extra:
        stored.raw.hset(stored.keys.job("large"), mapping=extra)
    before = stored.hash("large")
    size = sum(len(value) for value in before.values())
    await stored.add("job", {"x": "A" * 100_000}, jobId="small")
    (large, small) = (await stored.worker("w", max_job_bytes=MIB).take(2, "mine:1")).jobs
    assert (small.deferred_failure, len(small.data["x"])) == (None, 100_000)
    reason = large.deferred_failure or ""
    assert [int(word) for word in reason.split() if word.isdigit()] == [size, MIB]
    assert large.attempts_started == (2 if kind == "retried" else 1)
    assert large.scheduler_id == extra.get("rjk")
    assert large.data_bytes < 100
    assert large.text("stacktrace") is None
    # The job itself keeps what it holds.
    taken = stored.hash("large")
    assert {name: taken[name] for name in before if name != "ats"} == {
        name: value for name, value in before.items() if name != "ats"
    }


async def test_a_job_as_large_as_the_limit_is_read(stored: EngineQueue) -> None:
    await stored.add("job", {"x": "A" * 1000}, jobId="exact", deduplication={"id": "d"})
    size = sum(len(value) for value in stored.hash("exact").values())
    (job,) = (await stored.worker("w", max_job_bytes=size).take(1, "mine:1")).jobs
    assert (job.deferred_failure, job.text("deid")) == (None, "d")


async def test_a_large_job_does_not_count_against_a_rate_limit(stored: EngineQueue) -> None:
    for job_id, size in (("large", 2 * MIB), ("small", 10)):
        await stored.add("job", {"x": "A" * size}, jobId=job_id, deduplication={"id": job_id})
    stored.raw.hset(stored.keys.meta, mapping={"max": "5", "duration": "60000"})
    assert len((await stored.worker("w", max_job_bytes=MIB).take(2, "mine:1")).jobs) == 2
    assert stored.raw.get(stored.keys.limiter) == "1"


async def test_a_large_job_that_is_looked_at_comes_without_its_large_fields(stored: EngineQueue) -> None:
    await stored.add("job", {"x": "A" * MIB}, jobId="large")
    await stored.add("job", {"x": "A" * 100_000}, jobId="small")
    await stored.worker("w").take(2, "mine:1")
    looking = stored.worker("w", max_job_bytes=MIB)
    found = {job.id: job for job in await looking.adopt("mine:", ())}
    assert set(found) == {"large", "small"}
    assert found["small"].deferred_failure is None
    assert len(found["small"].data["x"]) == 100_000
    assert str(MIB) in (found["large"].deferred_failure or "")
    assert (found["large"].data_bytes, found["large"].name, found["large"].attempts_started) == (0, "job", 1)
