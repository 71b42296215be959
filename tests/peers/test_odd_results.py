"""Results that are not JSON or too large: BullMQ's QueueEvents tells why, and whatever comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import workers
from support.engine import EngineQueue
from support.node_peer import Peer, PeerError

ODD_JOBS = """
import os
from typing import Any
from toril import Job, Queue

queue = Queue(os.environ["TORIL_QUEUE"])

@queue.default
async def run(job: Job) -> Any:
    match job.name:
        case "nan":
            return {"rate": float("nan")}
        case "surrogate":
            return ["\\ud800"]
        case "object":
            return {"when": object()}
        case "key":
            return {"counts": {1: "a", "1": "b"}}
        case "large":
            return "x" * 10 * 1024 * 1024
        case "raises-surrogate":
            raise ValueError("no \\ud800")
        case "raises-large":
            raise ValueError("x" * 1024 * 1024)
    return job.data
"""
REASONS = {
    "nan": "return value.rate: is nan, which JSON does not have",
    "surrogate": "return value[0]: holds a lone surrogate",
    "object": "return value.when: is a object, which is not JSON",
    "key": "return value.counts: has the key 1, of type int; keys must be text",
    "raises-surrogate": "no ?",
    "raises-large": "x" * 1000,
}


@pytest.mark.requirement("T16")
async def test_their_listener_hears_of_each_and_of_what_comes_after(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str, tmp_path: Path
) -> None:
    events = await peer.listener()
    with workers.start(redis_url, queue_name, ODD_JOBS, folder=tmp_path) as worker:
        for name, reason in REASONS.items():
            job_id = await peer.queue.add(name, {}, attempts=3 if name != "raises-surrogate" else 1)
            with pytest.raises(PeerError) as refused:
                await peer.finished(events, job_id)
            assert str(refused.value).startswith(reason)
            assert ours.hash(job_id)["ats"] == ("3" if name == "raises-large" else "1"), "the work is not done again"
        assert len(await peer.finished(events, await peer.queue.add("large", {}))) == 10 * 1024 * 1024
        assert await peer.finished(events, await peer.queue.add("echo", {"still": "alive"})) == {"still": "alive"}
        assert worker.process.poll() is None
    ends = [name for name in ours.event_names() if name in ("completed", "failed")]
    assert ends == ["failed"] * len(REASONS) + ["completed"] * 2
