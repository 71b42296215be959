"""Pausing a queue in the layouts of BullMQ 5 and 6, and losing nothing where both are mixed."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue, open_queue


async def test_a_paused_queue_gives_nothing_until_resumed(queue: EngineQueue) -> None:
    await queue.add()
    assert await queue.producer.pause() is True
    assert await queue.producer.pause() is False
    assert await queue.inspector.is_paused()
    assert await queue.take() == []
    assert queue.places() == {"wait": ["1"]}
    assert queue.raw.exists(queue.keys.marker) == 0
    assert await queue.producer.resume() is True
    assert await queue.producer.resume() is False
    assert queue.raw.zscore(queue.keys.marker, "0") == 0
    assert (await queue.take_one()).id == "1"
    assert [name for name in queue.event_names() if name in ("paused", "resumed")] == ["paused", "resumed"]


async def test_resuming_wakes_for_the_next_due_job(queue: EngineQueue) -> None:
    await queue.add(delay=60_000, timestamp=1_800_000_000_000)
    await queue.producer.pause()
    await queue.producer.resume()
    assert queue.raw.zscore(queue.keys.marker, "1") == 1_800_000_060_000


@pytest.mark.parametrize("layout", ["5", "6"])
async def test_nothing_is_lost_when_both_lists_hold_jobs(redis_url: str, queue_name: str, layout: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5" if layout == "5" else "6") as queue:
        for job_id in ("a", "b"):
            await queue.add(jobId=job_id)
        for job_id in ("c", "d"):
            queue.raw.hset(queue.keys.job(job_id), mapping={"name": "n", "data": "{}", "opts": "{}"})
            queue.raw.lpush(queue.keys.paused, job_id)
        await queue.producer.pause()
        assert sorted(job_id for ids in queue.places().values() for job_id in ids) == ["a", "b", "c", "d"]
        assert await queue.inspector.counts() == {
            "waiting": 4, "active": 0, "delayed": 0, "prioritized": 0, "waiting-children": 0, "completed": 0,
            "failed": 0,
        }  # fmt: skip
        await queue.producer.resume()
        assert sorted(job.id for job in await queue.take(10)) == ["a", "b", "c", "d"]


async def test_with_bullmq_5_jobs_move_and_come_back_in_order(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        for job_id in ("a", "b", "c"):
            await queue.add(jobId=job_id)
        await queue.producer.pause()
        assert queue.places() == {"paused": ["a", "b", "c"]}
        await queue.producer.resume()
        assert queue.places() == {"wait": ["a", "b", "c"]}


@pytest.mark.parametrize("sign", ["version", "list"])
async def test_a_bullmq_5_peer_is_followed_without_being_told(queue: EngineQueue, sign: str) -> None:
    """Its resume renames `paused` over `wait`: whatever goes to `wait` meanwhile would be lost."""
    if sign == "version":
        queue.raw.hset(queue.keys.meta, "version", "bullmq:5.81.5")
        await queue.add(jobId="before")
        await queue.producer.pause()
    else:
        queue.raw.hset(queue.keys.meta, mapping={"version": "bullmq:6.7.0", "paused": 1})
        queue.raw.hset(queue.keys.job("before"), mapping={"name": "n", "data": "{}", "opts": "{}"})
        queue.raw.lpush(queue.keys.paused, "before")
    await queue.add(jobId="ours")
    assert queue.places() == {"paused": ["before", "ours"]}
    await queue.producer.resume()
    assert [job.id for job in await queue.take(5)] == ["before", "ours"]


async def test_a_bullmq_6_peer_finds_its_jobs_in_wait(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, "version", "bullmq:6.7.0")
    await queue.producer.pause()
    await queue.add(jobId="ours")
    assert queue.places() == {"wait": ["ours"]}
