"""Jobs that take a given time and tell when they started."""

from __future__ import annotations

import asyncio
import time
from typing import TypedDict

from toril import Job, Queue

naps = Queue("naps")


class Nap(TypedDict):
    startedMs: int
    pod: str | None


@naps.task
async def nap(seconds: float = 0, *, job: Job = Job.current()) -> Nap:
    """Sleep, and say when the function started (Unix milliseconds, the node's clock)."""
    started_ms = time.time_ns() // 1_000_000
    if seconds:
        # A row for each start: how often the function ran can be counted.
        await job.log(f"start of attempt {job.attempt}")
        await asyncio.sleep(seconds)
    return {"startedMs": started_ms, "pod": job.record.processed_by}
