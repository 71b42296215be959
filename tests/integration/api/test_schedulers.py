"""Schedules through `queue.schedulers`, worked by our own worker."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.waiting import wait_until_async
from support.worker_inside import running
from toril import Queue, errors
from toril.jobs.job import JobState


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    async with Queue(queue_name, url=redis_url) as opened:
        yield opened


@pytest.mark.requirement("B-19", "C-25")
async def test_a_worker_keeps_an_interval_going(queue: Queue) -> None:
    seen: list[tuple[str, int]] = []

    @queue.task(attempts=2)
    async def health_check(depth: int) -> None:
        seen.append((queue.name, depth))

    await queue.schedulers.upsert("health", every=0.05, draft=health_check.draft(3))
    async with running(queue):

        async def has_run() -> bool:
            return len(seen) >= 4

        await wait_until_async(has_run, "four runs")
        assert await queue.schedulers.remove("health")
    assert set(seen) == {(queue.name, 3)}
    jobs = await queue.jobs(JobState.COMPLETED)
    slots = sorted(int(job.id.rpartition(":")[2]) for job in jobs)
    # A worker that comes late makes up for nothing, and the beat stays.
    assert all((slot - slots[0]) % 50 == 0 for slot in slots)
    assert all(job.opts["attempts"] == 2 for job in jobs)


@pytest.mark.requirement("B-18", "I-14", "I-15", "I-16", "C-24")
async def test_calendars_are_listed_in_our_words(queue: Queue) -> None:
    calendars = {
        "every-minute": "* * * * *", "hourly-stats": "0 * * * *", "daily-cleanup": "0 0 * * *",
        "daily-at-two": "0 2 * * *", "weekly-report": "0 9 * * 1", "monthly": "0 0 1 * *", "quarters": "*/15 * * * *",
    }  # fmt: skip
    for scheduler_id, cron in calendars.items():
        await queue.schedulers.upsert(
            scheduler_id, cron=cron, tz="Europe/Berlin", data={"of": scheduler_id}, priority=2
        )
    found = {scheduler.id: scheduler for scheduler in await queue.schedulers.list()}
    assert {scheduler_id: scheduler.repeat["pattern"] for scheduler_id, scheduler in found.items()} == calendars
    weekly = found["weekly-report"]
    local = weekly.next_run.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    assert (local.weekday(), local.hour, local.minute, weekly.made) == (0, 9, 0, 1)
    assert (weekly.name, weekly.data, weekly.options) == ("weekly-report", {"of": "weekly-report"}, {"priority": 2})
    assert await queue.schedulers.count() == (await queue.counts())["delayed"] == 7
    # A single moment needs no scheduler.
    handle = await queue.add("send-email", {}, {"delay": 60_000})
    assert await handle.state() == "delayed"


async def test_a_job_that_is_armed_can_be_followed(queue: Queue) -> None:
    handle = await queue.schedulers.upsert("now", cron="0 0 1 1 *", immediately=True, name="echo", data=4)

    @queue.default
    async def echo(job: Any) -> Any:
        return job.data

    async with running(queue):
        assert await handle.result(timeout=30) == 4
    scheduler = await queue.schedulers.get("now")
    assert scheduler is not None
    assert (scheduler.made, scheduler.next_run.month, scheduler.next_run.day) == (2, 1, 1)


async def test_a_schedule_without_an_event_loop(queue: Queue) -> None:
    def use() -> list[Any]:
        schedulers = queue.sync.schedulers
        start = datetime.now(UTC) + timedelta(hours=2)
        handle = schedulers.upsert("s", every=timedelta(hours=1), start=start, limit=3, data=1)
        found = schedulers.get("s")
        return [handle.id, found, [each.id for each in schedulers.list()], schedulers.remove("s"), schedulers.get("s")]

    job_id, found, listed, removed, after = await asyncio.to_thread(use)
    assert job_id == f"repeat:s:{round(found.next_run.timestamp() * 1000)}"
    assert found.repeat["every"] == 3_600_000
    assert (listed, removed, after) == (["s"], True, None)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "every"),
        ({"every": 1, "cron": "* * * * *"}, "every"),
        ({"every": -1}, "every"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "tz"),
        ({"cron": "* * * * *", "offset": 1}, "offset"),
        ({"every": 1, "start": datetime(2030, 1, 1)}, "start"),
        ({"every": 1, "limit": 0}, "limit"),
        ({"every": 1, "delay": 5}, "options.delay"),
        ({"every": 1, "job_id": "mine"}, "options.jobId"),
        ({"every": 1, "colour": "red"}, "colour"),
        ({"every": 1, "end": datetime(2020, 1, 1, tzinfo=UTC)}, "end"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_by_name(queue: Queue, options: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        await queue.schedulers.upsert("s", **options)
    assert caught.value.field == field
    assert await queue.schedulers.count() == 0
