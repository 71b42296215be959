"""Run on the node, as an application would: `add COUNT SECONDS`, `report COUNT`, `measure`. Redis is REDIS_URL's."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from toril import Queue


async def add(queue: Queue, count: int, seconds: float) -> None:
    for number in range(count):
        await queue.add("nap", {"seconds": seconds}, {"jobId": f"nap-{number}"})


async def report(queue: Queue, count: int) -> None:
    """Wait until the jobs of `add` have ended; print what became of each."""
    jobs = []
    for number in range(count):
        handle = queue.handle(f"nap-{number}")
        await handle.result(120)
        job = await handle.job()
        jobs.append(
            {
                "state": await handle.state(),
                "starts": len(await queue.inspector().logs(handle.id)),
                "stalls": job.stalled_count,
                "attempts": job.attempts_made,
            }
        )
    print(json.dumps(jobs))


async def measure(queue: Queue) -> None:
    """Print the milliseconds from an add's reply to the start of its function."""
    handle = await queue.add("nap", {})
    replied_ms = time.time_ns() // 1_000_000
    result = await handle.result(120)
    print(result["startedMs"] - replied_ms)


async def main() -> None:
    command, *numbers = sys.argv[1:]
    async with Queue("naps") as queue:
        if command == "add":
            await add(queue, int(numbers[0]), float(numbers[1]))
        elif command == "report":
            await report(queue, int(numbers[0]))
        else:
            await measure(queue)


asyncio.run(main())
