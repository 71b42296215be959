"""Run on the node: `read_slots.py QUEUE SCHEDULER` prints what became of a scheduler's slots. Redis is REDIS_URL's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

import redis.asyncio as redis


async def read(queue: str, scheduler: str) -> dict[str, Any]:
    base, start = f"bull:{queue}:", f"repeat:{scheduler}:"
    client: Any = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    async with client:
        seconds, _ = await client.time()
        keys = [key async for key in client.scan_iter(f"{base}{start}*", count=1000)]
        told = [fields for _, fields in await client.xrange(f"{base}events")]
        completed = await client.zrange(f"{base}completed", 0, -1)
    slots = {int(key.removeprefix(base + start)) for key in keys if key.count(":") == (base + start).count(":")}
    counts = {
        event: Counter(fields["jobId"] for fields in told if fields["event"] == event and "jobId" in fields)
        for event in ("added", "completed")
    }
    return {
        "nowMs": 1000 * seconds,
        "slots": sorted(slots),
        "twice": [f"{event} {job}" for event, jobs in counts.items() for job, count in jobs.items() if count > 1],
        "completed": sorted(int(job.removeprefix(start)) for job in completed if job.startswith(start)),
        "others": [job for job in completed if not job.startswith(start)],
    }


print(json.dumps(asyncio.run(read(*sys.argv[1:]))))
