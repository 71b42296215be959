"""Our public API over BullMQ's workers, and the example's producer over workers of ours."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import node_peer, workers
from support.node_peer import Peer
from toril import Queue, errors

EXAMPLE = Path(__file__).parents[2] / "examples" / "zettanote"


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    async with Queue(queue_name, url=redis_url) as opened:
        yield opened


@pytest.mark.requirement("Z-21", "Z-25")
@pytest.mark.wire(60)
async def test_results_of_their_workers(peer: Peer, queue: Queue) -> None:
    handle = await queue.add("echo", {"pageId": "p-1"})
    not_kept = await queue.add("echo", [1], {"removeOnComplete": True})
    broken = await queue.add("unrecoverable", {"message": "image: is missing"}, {"attempts": 3})
    results = asyncio.gather(handle.result(30), not_kept.result(30), broken.result(30), return_exceptions=True)
    await peer.worker()
    first, second, third = await results
    assert (first, second) == ({"pageId": "p-1"}, [1])
    assert isinstance(third, errors.JobFailedError)
    assert "image: is missing" in str(third)
    assert await handle.state() == "completed"
    assert (await queue.counts())["failed"] == 1


async def test_the_same_without_an_event_loop(peer: Peer, queue: Queue) -> None:
    handle = await asyncio.to_thread(queue.sync.add, "echo", {"n": 1})
    await peer.worker()
    assert await asyncio.to_thread(handle.result, 30) == {"n": 1}


@pytest.mark.requirement("Z-05", "Z-06", "Z-17", "Z-18", "Z-19", "Z-20", "Z-21", "Z-22")
async def test_the_examples_producer(version: str, redis_url: str, tmp_path: Path) -> None:
    """ZettaNote's producer in Node, its workers in Python; `BULLMQ` names the package that it takes."""
    started = [
        workers.spawn(redis_url, queue, EXAMPLE / "jobs.py", concurrency=concurrency, folder=tmp_path)
        for queue, concurrency in (("page-save", 5), ("image-upload", 3))
    ]
    try:
        for worker in started:
            worker.wait_ready()
        process = await asyncio.create_subprocess_exec(
            "node", str(EXAMPLE / "produce.mjs"), "--page-save", "20", "--image-upload", "6", "--invalid", "1",
            "--timeout", "60", cwd=node_peer.FOLDER, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "REDIS_URL": redis_url, "BULLMQ": node_peer.PACKAGES[version]},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 90)
    finally:
        for worker in started:
            worker.close()
    summary = json.loads(out.decode().splitlines()[-1])
    assert summary["problems"] == []
    assert summary["queues"] == {
        "page-save": {"added": 20, "completed": 20, "failed": 0, "started": 20},
        "image-upload": {"added": 7, "completed": 6, "failed": 1, "started": 7},
    }
    assert process.returncode == 0
