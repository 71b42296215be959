"""Read this first: a queue, a task, a job added, a worker that runs it, and its result."""

from __future__ import annotations

import pytest

from support import workers
from toril import JobFailedError, Queue

MODULE = """
from toril import Queue, Unrecoverable

greetings = Queue("greetings")

@greetings.task
async def greet(name: str, greeting: str = "Hello") -> str:
    if not name:
        raise Unrecoverable("nobody to greet")
    return f"{greeting}, {name}!"
"""


async def test_a_job_is_added_here_and_runs_there(redis_url: str) -> None:
    # The side that adds needs only the queue's name, the job's name and the data …
    async with Queue("greetings", url=redis_url) as greetings:
        handle = await greetings.add("greet", {"name": "Ada"})
        # … and a worker, which is another process, has the functions.
        with workers.start(redis_url, "greetings", MODULE):
            assert await handle.result(timeout=30) == "Hello, Ada!"

            failing = await greetings.add("greet", {"name": ""}, {"attempts": 3})
            with pytest.raises(JobFailedError, match="nobody to greet"):
                await failing.result(timeout=30)
        assert await greetings.counts() | {"completed": 1, "failed": 1} == await greetings.counts()


async def test_the_same_code_can_be_shared(redis_url: str) -> None:
    greetings = Queue("greetings", url=redis_url)

    @greetings.task
    async def greet(name: str, greeting: str = "Hello") -> str:
        raise AssertionError("runs in the worker, not here")

    async with greetings:
        with workers.start(redis_url, "greetings", MODULE):
            handles = await greetings.add_bulk([greet.draft(name) for name in ("Ada", "Grace")])
            results = [await handle.result(timeout=30) for handle in handles]
            assert results == ["Hello, Ada!", "Hello, Grace!"]
            handle = await greet.options(delay=0.05).enqueue("Edsger", greeting="Goedendag")
            assert await handle.result(timeout=30) == "Goedendag, Edsger!"
