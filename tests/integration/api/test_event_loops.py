"""However many event loops a program has, one after the other or side by side: few connections, and no warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.redis_server import RedisServer

PREPARE = """
import asyncio, gc, sys, threading, warnings
import redis
from toril import Queue, flow

watch = redis.Redis.from_url(sys.argv[1])
queue = Queue("q", url=sys.argv[1])

@queue.task
async def send(n: int) -> int:
    return n

def clients() -> int:
    return len([each for each in watch.client_list() if each["cmd"] != "client|list"])
"""

PROGRAMS = {
    "asyncio-run": """
for n in range(50):
    asyncio.run(send.enqueue(n))
    assert clients() <= 1, clients()
""",
    "all-that-a-queue-can-do": """
async def everything():
    handle = await send.enqueue(1)
    await handle.state()
    await queue.counts()
    await queue.get_global_concurrency()
    await flow(send.draft(1), [send.draft(2)]).enqueue()
    waiting = asyncio.create_task(handle.result())
    events = queue.events(after="0")
    await anext(events)
    await asyncio.sleep(0)
    return events
for n in range(20):
    kept = asyncio.run(everything())
    assert clients() <= 1, clients()
""",
    "a-queue-for-each-call": """
async def add():
    await Queue("q", url=sys.argv[1]).add("x", {})
for n in range(50):
    asyncio.run(add())
    assert clients() <= 1, clients()
""",
    "a-queue-for-each-call-on-one-loop": """
async def main():
    for n in range(50):
        await Queue("q", url=sys.argv[1]).add("x", {})
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert clients() <= 3, clients()
asyncio.run(main())
""",
    "a-loop-in-each-of-many-threads": """
for _ in range(5):
    threads = [threading.Thread(target=lambda: asyncio.run(send.enqueue(1))) for _ in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert clients() <= 1, clients()
""",
    "loops-that-are-closed-by-hand": """
for n in range(50):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send.enqueue(n))
    loop.close()
    assert clients() <= 2, clients()
del loop
asyncio.run(queue.counts())  # the next loop ends what the last one left
""",
    "readers-on-loops-closed-by-hand": """
async def wait(handle):
    try:
        await asyncio.wait_for(handle.result(), 0.2)
    except TimeoutError:
        pass
for n in range(10):
    loop = asyncio.new_event_loop()
    handle = loop.run_until_complete(send.enqueue(n))
    loop.run_until_complete(wait(handle))
    tasks = asyncio.all_tasks(loop)
    for task in tasks: task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    assert clients() <= 3, clients()
del loop, handle, tasks, task
asyncio.run(queue.counts())
""",
    "a-queue-that-is-closed-and-used-again": """
async def twice():
    async with queue:
        await send.enqueue(1)
    await send.enqueue(2)
for n in range(20):
    asyncio.run(twice())
    assert clients() <= 1, clients()
""",
    "without-a-loop": """
for n in range(50):
    send.sync.enqueue(n)
    assert clients() <= 2, clients()
for n in range(50):
    Queue("q", url=sys.argv[1]).sync.add("x", {})
    gc.collect()
    assert clients() <= 3, clients()
threads = [threading.Thread(target=send.sync.enqueue, args=(1,)) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert clients() <= 3, clients()
queue.sync.close()
""",
}
FINISH = """
gc.collect()
watch.close()
print("done")
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_connections_go_with_their_loops(tmp_path: Path, name: str) -> None:
    server = RedisServer()
    try:
        (tmp_path / "program.py").write_text(PREPARE + PROGRAMS[name] + FINISH)
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "program.py", server.url],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-3000:]
        assert "ResourceWarning" not in done.stderr
        assert "never retrieved" not in done.stderr
    finally:
        server.remove()


def test_a_loop_that_nobody_closes_takes_its_connection_along(tmp_path: Path) -> None:
    """Python itself warns of such a loop."""
    server = RedisServer()
    program = """
for n in range(50):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send.enqueue(n))
    del loop
    gc.collect()
    assert clients() <= 2, clients()
"""
    try:
        (tmp_path / "program.py").write_text(PREPARE + program + FINISH)
        arguments = [sys.executable, "program.py", server.url]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-3000:]
    finally:
        server.remove()
