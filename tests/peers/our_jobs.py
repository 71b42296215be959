"""What our worker runs in these tests: by the job's name, the same repertoire as in `driver.mjs`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from toril import Job, Queue, Unrecoverable

queue = Queue(os.environ["TORIL_QUEUE"])


def trace(word: str) -> None:
    fd = os.open(os.environ["TEST_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


@queue.default
async def run(job: Job) -> Any:
    trace(job.id)
    match job.name:
        case "nothing":
            return None
        case "fail":
            raise ValueError(job.data["message"])
        case "failTimes":
            if job.attempt <= job.data["times"]:
                raise ValueError(f"{job.data['message']} {job.attempt}")
            return "recovered"
        case "unrecoverable":
            raise Unrecoverable(job.data["message"])
        case "report":
            await job.progress(job.data["progress"])
            for row in job.data["rows"]:
                await job.log(row)
            return job.data["value"]
        case "hang":
            await asyncio.Event().wait()
        case "sleep":
            await asyncio.sleep(job.data["ms"] / 1000)
            return "slept"
    return job.data
