"""Toril's producers as the benchmark drives them: reads requests as lines of JSON, answers each with one.

A request is `{op: "bulk" | "async" | "sync", url, queue, jobs, perCall}`; its answer `{seconds, jobs, cpuSeconds}`,
without the first twentieth. Times are of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

from toril import Queue

DATA = {"to": "somebody@example.com", "subject": "Your weekly summary is here", "body": "x" * 25}


def send(to: str, subject: str, body: str) -> None:
    """The task whose jobs are added in bulk; it is not run here."""


async def add_bulk(queue: Queue, count: int, per_call: int) -> None:
    task = queue.tasks.get("send") or queue.task(send)
    for done in range(0, count, per_call):
        await queue.add_bulk(task.draft(**DATA) for _ in range(min(per_call, count - done)))


async def add_singly(queue: Queue, count: int, per_call: int) -> None:
    for _ in range(count):
        await queue.add("send", DATA)


async def add_singly_without_loop(queue: Queue, count: int, per_call: int) -> None:
    for _ in range(count):
        queue.sync.add("send", DATA)


WAYS: Mapping[str, Callable[[Queue, int, int], Awaitable[None]]] = {
    "bulk": add_bulk,
    "async": add_singly,
    "sync": add_singly_without_loop,
}


async def answer(request: Mapping[str, Any]) -> dict[str, float]:
    add, count, per_call = WAYS[request["op"]], request["jobs"], request["perCall"]
    queue = Queue(request["queue"], url=request["url"])
    untimed = math.ceil(count / 20 / per_call) * per_call
    await add(queue, untimed, per_call)
    cpu, began = time.process_time(), time.monotonic()
    await add(queue, count - untimed, per_call)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    await queue.close()
    return {"seconds": seconds, "jobs": count - untimed, "cpuSeconds": cpu_seconds}


def main() -> None:
    for line in sys.stdin:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(answer(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
