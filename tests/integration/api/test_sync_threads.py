"""The synchronous twins in rough use: many threads, forks, signals, a close and a lost Redis while a thread waits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from support.engine import EngineQueue
from support.redis_server import RedisServer
from support.waiting import wait_until
from support.worker_inside import StartWorker
from toril import JobHandle, Queue, errors, flow
from toril.client.sync.handle import SyncJobHandle

THREADS = 16


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that keeps its data when it is killed."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.remove()


@contextmanager
def writes_held(watch: redis.Redis) -> Iterator[None]:
    """Let the server keep writing clients waiting."""
    watch.client_pause(60_000, all=False)
    try:
        yield
    finally:
        watch.client_unpause()


def connections(watch: redis.Redis) -> int:
    """How many clients the server has, without the one that asks."""
    return len(watch.client_list()) - 1


def is_under_way(queue: Queue) -> bool:
    """Whether a thread sends a request or waits for a reply."""
    producer = queue.client._of_threads.get("producer")
    return producer is not None and producer.connection._turn.locked()


def test_threads_that_share_a_queue_add_each_job_once(server: RedisServer) -> None:
    queue = Queue("q", url=server.url)

    @queue.task
    def send(n: int) -> None: ...

    begin = threading.Barrier(THREADS)

    def add(thread: int) -> list[str]:
        begin.wait(60)
        ids: list[str] = []
        for n in range(100):
            ids.append(send.sync.enqueue(n).id)
            ids.append(queue.sync.add("other", {"n": n}).id)
            ids += [handle.id for handle in queue.sync.add_bulk([send.draft(n), ("other", {"n": n})])]
            ids.append(flow(send.draft(n), []).sync.enqueue().id)
        queue.sync.schedulers.upsert(f"every-{thread}", every=3600, name="tick")
        return ids

    with ThreadPoolExecutor(THREADS) as pool:
        found = [each for ids in pool.map(add, range(THREADS)) for each in ids]
    assert len(set(found)) == len(found) == THREADS * 500
    # The first slot of an interval is now.
    assert queue.sync.counts()["waiting"] == THREADS * 500 + THREADS
    assert len(queue.sync.schedulers.list()) == THREADS
    with server.client() as watch:
        assert connections(watch) == 1
        queue.sync.close()
        wait_until(lambda: connections(watch) == 0, "the connection to go")


def test_a_close_waits_for_no_reply_and_loses_none(server: RedisServer) -> None:
    queue = Queue("q", url=server.url)
    queue.sync.add("first", {})
    # A slow machine may need longer than the usual time limit of a reply.
    queue.client._of_threads["producer"].connection._timeout_seconds = 60
    with server.client() as watch, ThreadPoolExecutor(1) as pool:
        with writes_held(watch):
            adding = pool.submit(queue.sync.add, "second", {})
            wait_until(lambda: is_under_way(queue), "the request of the thread")
            queue.sync.close()
            assert not adding.done()
        assert adding.result(60).id == "2"
        wait_until(lambda: connections(watch) == 0, "the connection to go")
        assert queue.sync.counts()["waiting"] == 2
    queue.sync.close()


def test_a_close_does_not_disturb_a_thread_that_waits_for_a_result(
    redis_url: str, queue_name: str, stored: EngineQueue
) -> None:
    queue = Queue(queue_name, url=redis_url)
    handle = queue.sync.add("slow", {})
    may_end = threading.Event()

    def close_often() -> None:
        while not may_end.is_set():
            queue.sync.close()

    with ThreadPoolExecutor(2) as pool:
        closing = pool.submit(close_often)
        try:
            for _ in range(200):
                assert queue.sync.counts()["waiting"] == 1
            with pytest.raises(errors.ResultTimeoutError):
                handle.result(0.5)
        finally:
            may_end.set()
        closing.result(60)
    queue.sync.close()


def test_results_and_adds_survive_a_restart_of_redis(server: RedisServer) -> None:
    queue = Queue("q", url=server.url)
    waited_for = queue.sync.add("waited-for", {})
    other = Queue("q", url=server.url)
    begun = threading.Semaphore(0)
    restarted = threading.Event()

    def add(thread: int) -> None:
        for n in range(60):
            if n == 20:
                begun.release()
            while True:
                try:
                    queue.sync.add("job", {}, {"jobId": f"{thread}-{n}"})
                    break
                except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                    assert problem.temporary, problem
            if n == 40:
                restarted.wait(60)

    def finish() -> None:
        with server.client() as watch:
            watch.lrem("bull:q:wait", 1, waited_for.id)
            watch.hset(f"bull:q:{waited_for.id}", mapping={"returnvalue": "7", "finishedOn": "1"})
            watch.zadd("bull:q:completed", {waited_for.id: 1})

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(waited_for.result, 60) for _ in range(2)]
        adding = [pool.submit(add, thread) for thread in range(4)]
        for _ in adding:
            assert begun.acquire(timeout=60)
        server.stop(kill=True)
        server.start()
        restarted.set()
        for each in adding:
            each.result(60)
        finish()
        assert [each.result(60) for each in results] == [7, 7]
    assert other.sync.counts()["waiting"] == 4 * 60
    queue.sync.close()
    other.sync.close()


async def test_twins_work_on_a_running_loop_and_their_handles_become_asynchronous(
    tasks: Queue, worker: StartWorker
) -> None:
    @tasks.task
    async def double(n: int) -> int:
        return 2 * n

    handles: list[SyncJobHandle[Any]] = [
        double.sync.enqueue(1),
        tasks.sync.add("double", {"n": 2}),
        flow(double.draft(3), []).sync.enqueue(),
    ]
    async with worker(tasks):
        found: list[Any] = [await JobHandle(handle.client, handle.id).result(30) for handle in handles]
    assert found == [2, 4, 6]
    assert [handle.result(30) for handle in handles] == [2, 4, 6]


PREPARE = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)      # of Python 3.12: forks in programs that have threads
import redis
from toril import Queue, errors

watch = redis.Redis.from_url(sys.argv[1])
queue = Queue("q", url=sys.argv[1])

def is_under_way():
    producer = queue.client._of_threads.get("producer")
    return producer is not None and producer.connection._turn.locked()

def wait_until(probe):
    deadline = time.monotonic() + 60
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.01)

def hold_writes():
    watch.client_pause(60_000, all=False)
    # A slow machine may need longer than the usual time limit of a reply.
    queue.client._of_threads["producer"].connection._timeout_seconds = 60

def let_writes_go():
    watch.client_unpause()
"""

PROGRAMS = {
    "forks-while-threads-add": """
queue.sync.add("first", {})
may_end = threading.Event()
added = [0] * 4

def add(thread):
    while not may_end.is_set():
        queue.sync.add("of-parent", {})
        added[thread] += 1

def add_in_child(begin):
    begin.wait(60)
    for _ in range(5):
        queue.sync.add("of-child", {})

def run_child():
    begin = threading.Barrier(4)
    threads = [threading.Thread(target=add_in_child, args=(begin,)) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    counted = queue.sync.counts()["waiting"]
    assert counted >= 21, counted

threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
for each in threads: each.start()
children = []
for _ in range(12):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_child()
            code = 0
        finally:
            os._exit(code)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
may_end.set()
for each in threads: each.join()
assert codes == [0] * 12, codes
assert queue.sync.counts()["waiting"] == 1 + sum(added) + 12 * 20
queue.sync.close()
""",
    "forks-while-a-thread-notes-a-connection": """
import asyncio
from toril.engine.redis import protocol

asyncio.run(queue.counts())
with protocol._changing:
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(60)
        try:
            asyncio.run(queue.add("of-child", {}))
            code = 0
        finally:
            os._exit(code)
assert os.waitpid(child, 0)[1] == 0
assert queue.sync.counts()["waiting"] == 1
queue.sync.close()
""",
    "interrupt-while-a-result-is-awaited": """
handle = queue.sync.add("slow", {})
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    handle.result()
    raise SystemExit("no KeyboardInterrupt")
except KeyboardInterrupt:
    pass
assert queue.sync.counts()["waiting"] == 1
assert len(watch.client_list()) == 2
queue.sync.close()
""",
    "interrupt-while-a-reply-is-awaited": """
queue.sync.add("first", {})
hold_writes()

def interrupt():
    wait_until(is_under_way)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    queue.sync.add("second", {})
    raise SystemExit("no KeyboardInterrupt")
except KeyboardInterrupt:
    pass
let_writes_go()
assert queue.sync.handle("1").job().name == "first"
assert queue.sync.add("third", {}, {"jobId": "third"}).id == "third"
wait_until(lambda: len(watch.client_list()) == 2)
queue.sync.close()
""",
    "signal-handler-that-adds-and-closes": """
queue.sync.add("first", {})
hold_writes()

def on_signal(number, frame):
    let_writes_go()
    handled.append(queue.sync.add("by-the-handler", {}).id)
    handled.append(queue.sync.counts()["waiting"])
    queue.sync.close()

def send_signal():
    wait_until(is_under_way)
    os.kill(os.getpid(), signal.SIGUSR1)

handled = []
signal.signal(signal.SIGUSR1, on_signal)
threading.Thread(target=send_signal).start()
interrupted = queue.sync.add("interrupted", {}).id
assert queue.sync.handle(interrupted).job().name == "interrupted"
assert queue.sync.handle(handled[0]).job().name == "by-the-handler"
assert queue.sync.counts()["waiting"] == 3
queue.sync.close()
wait_until(lambda: len(watch.client_list()) == 1)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that(tmp_path: Path, name: str) -> None:
    server = RedisServer()
    try:
        (tmp_path / "program.py").write_text(PREPARE + PROGRAMS[name] + '\nprint("done")\n')
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "program.py", server.url],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-3000:]
        assert "ResourceWarning" not in done.stderr
    finally:
        server.remove()
