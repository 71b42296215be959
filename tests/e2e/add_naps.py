"""Run on the node, as an application would; Redis is REDIS_URL's.

`add COUNT SECONDS`, `report COUNT`, `add-one ID SECONDS`, `report-one ID SECONDS`, `measure`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from toril import Queue


def ids(count: int) -> list[str]:
    return [f"nap-{number}" for number in range(count)]


async def add(queue: Queue, job_ids: list[str], seconds: float) -> None:
    for job_id in job_ids:
        await queue.add("nap", {"seconds": seconds}, {"jobId": job_id})


async def report(queue: Queue, job_ids: list[str]) -> None:
    """Wait until the jobs have ended; print what became of each."""
    jobs = []
    for job_id in job_ids:
        handle = queue.handle(job_id)
        result = await handle.result(120)
        job = await handle.job()
        jobs.append(
            {
                "result": result,
                "state": await handle.state(),
                "starts": (await handle.logs()).count,
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
    command, *arguments = sys.argv[1:]
    async with Queue("naps") as queue:
        match command, arguments:
            case "add", [count, seconds]:
                await add(queue, ids(int(count)), float(seconds))
            case "report", [count]:
                await report(queue, ids(int(count)))
            case "add-one", [job_id, seconds]:
                await add(queue, [job_id], float(seconds))
            case "report-one", [job_id, _]:
                await report(queue, [job_id])
            case _:
                await measure(queue)


asyncio.run(main())
