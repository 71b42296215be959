"""Series that BullMQ stored go on at our workers, patterns and zones that callers may not use included; what cannot be
carried on is told and stays."""

from __future__ import annotations

import asyncio
import collections
import logging
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import ports, worker_inside
from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril import Job, Queue

SERIES: dict[str, list[tuple[str, str]]] = {
    "5": [("*/2,*/3 * * * * *", "UTC"), ("* * * * * 1-5,0-6", "Utc"), ("*/3 -0,*/1 * * * *", "GMT")],
    "6": [("H/3 * * * * *", "UTC"), ("?/2 * * * * *", "UTC"), ("* * * * * jan-sat,7", "Utc")],
}
BOTH: list[tuple[str, str]] = [
    ("* * * * * *", "utc"), ("*/2 * * * * *", "europe/berlin"), ("* * * * * *", "UTC+2"), ("* * * * * *", "utc-3:30"),
    ("* * * * * 0-6,5L", "PST"), ("* * * * * *", "local"),
]  # fmt: skip


@pytest.fixture
def tasks(redis_url: str, queue_name: str) -> Queue:
    queue = Queue(queue_name, url=redis_url)

    @queue.default
    async def run(job: Job) -> None: ...

    return queue


async def test_series_of_their_library_go_on_at_our_workers(
    peer: Peer, version: str, tasks: Queue, ours: EngineQueue
) -> None:
    taken = []
    for number, (pattern, tz) in enumerate([*SERIES[version], *BOTH]):
        await peer.queue.call("upsertJobScheduler", f"s{number}", {"pattern": pattern, "tz": tz}, {"name": "n"})
        taken.append(f"s{number}")

    async def all_have_run_twice() -> bool:
        runs = collections.Counter(job_id.split(":")[1] for job_id in ours.places().get("completed", []))
        return all(runs[scheduler_id] >= 2 for scheduler_id in taken)

    async with worker_inside.running(tasks):
        await wait_until_async(all_have_run_twice, "two runs of each series")


def stuck_schedulers(port: int) -> float:
    """What the worker's metric says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    (family,) = (each for each in families if each.name == "toril_job_schedulers_stuck")
    return float(family.samples[0].value)


async def test_what_cannot_be_carried_on_is_told_once_and_stays(
    peer: Peer, tasks: Queue, ours: EngineQueue, caplog: pytest.LogCaptureFixture
) -> None:
    await peer.queue.call("upsertJobScheduler", "odd", {"pattern": "* * * * * *", "tz": "UTC"}, {"name": "n"})
    (record,) = await ours.schedulers.list()
    job_key = ours.keys.job(record.job_id)
    # As a repeat strategy of one's own, or a newer version, would store it.
    opts = ours.raw.hget(job_key, "opts").replace("* * * * * *", "FREQ=SECONDLY")
    ours.raw.hset(job_key, "opts", opts)

    async def told() -> list[str]:
        return [line for line in caplog.messages if "odd" in line]

    async def is_mended() -> list[str]:
        return [job_id for job_id in ours.places().get("delayed", []) if job_id.startswith("repeat:left:")]

    port = ports.free_port()
    with caplog.at_level(logging.WARNING, logger="toril.worker"):
        async with worker_inside.running(tasks, stalled_interval_ms=30, http_port=port):
            await wait_until_async(told, "the line")
            # Only a further look at all series makes this one's job: the first one's was lost.
            ours.raw.hset(f"{ours.keys.repeat}:left", mapping={"name": "n", "every": 3_600_000, "ic": 1})
            ours.raw.zadd(ours.keys.repeat, {"left": 1000})
            await wait_until_async(is_mended, "the job of the other series")
            assert await asyncio.to_thread(stuck_schedulers, port) == 1.0
    assert len(await told()) == 1
    assert "repeat.pattern" in (await told())[0]
    assert {each.id for each in await ours.schedulers.list()} == {"odd", "left"}
