"""Measures workers: how fast they empty a queue, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from benchmarks import contenders, servers
from benchmarks.contenders import Process
from benchmarks.servers import Server
from support.redis_server import die_with_parent
from support.waiting import wait_until
from toril import Queue
from toril.engine.keys import QueueKeys

DATA = {"to": "somebody@example.com", "subject": "Your weekly summary is here", "body": "x" * 25}
UNTIMED = 0.05
POLL_SECONDS = 0.02
LIMIT_SECONDS = 120.0
SPINNER = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"


@dataclass(frozen=True)
class Contender:
    """One kind of worker, with a queue of its own."""

    name: str
    queue: str
    start: Callable[[str, str, int], Process]
    """Gets URL, queue and concurrency."""


def _bullmq(kind: str) -> Contender:
    return Contender("bullmq", "bench", lambda url, queue, slots: contenders.bullmq_worker(url, queue, slots, kind))


def no_op() -> list[Contender]:
    return [_bullmq("none"), *_toril("none", ("async", "def"))]


def waiting() -> list[Contender]:
    return [_bullmq("wait"), *_toril("wait", ("async", "def"))]


def latency() -> list[Contender]:
    return [_bullmq("latency"), *_toril("latency", ("async", "def"))]


def _toril(kind: str, ways: tuple[str, ...]) -> list[Contender]:
    return [Contender(way, f"{way}-{kind}", contenders.toril_worker) for way in ways]


@dataclass(frozen=True)
class Moment:
    """What has been done and used until then."""

    at: float
    completed: int
    redis_seconds: float
    client_seconds: float


def process(contender: Contender, jobs: int, concurrency: int, *, aof: bool = False) -> dict[str, float]:
    """Fill a queue, let one worker process empty it, and answer rate and CPU, without boot and the first twentieth."""
    with servers.fresh(*(servers.AOF if aof else ())) as server:
        fill(server, contender.queue, jobs, DATA)
        with contender.start(server.url, contender.queue, concurrency) as worker:
            first, last = _watch(server, worker, contender.queue, jobs)
    done = last.completed - first.completed
    return {
        "rate": done / (last.at - first.at),
        "redis_us": (last.redis_seconds - first.redis_seconds) / done * 1e6,
        "client_us": (last.client_seconds - first.client_seconds) / done * 1e6,
    }


def busy(contender: Contender, jobs: int, concurrency: int, wait_ms: int) -> dict[str, float]:
    """Let a worker run functions that wait; answer which share of its slots ran one, without the first twentieth.

    `busy` counts from a function's first line to its last; `ideal` only the time that it asked to wait.
    """
    with servers.fresh() as server:
        fill(server, contender.queue, jobs, {"ms": wait_ms})
        with contender.start(server.url, contender.queue, concurrency) as worker:
            first, last = _watch(server, worker, contender.queue, jobs)
        waited_us = _return_values(server, contender.queue)[first.completed :]
    done, slot_seconds = last.completed - first.completed, (last.at - first.at) * concurrency
    return {
        "rate": done / (last.at - first.at),
        "busy": sum(waited_us) / 1e6 / slot_seconds,
        "ideal": done * wait_ms / 1e3 / slot_seconds,
    }


def pick_up(contender: Contender, jobs: int, gap_seconds: float) -> dict[str, float]:
    """Add jobs one by one to an idle worker; answer how long after the sending of each its function started, ms."""
    with servers.fresh() as server, contender.start(server.url, contender.queue, 10):
        wait_until(lambda: _is_blocked(server), "a worker that waits for jobs", timeout_seconds=20)
        queue = Queue(contender.queue, url=server.url)
        for index in range(jobs):
            # Never in step with anything.
            time.sleep(gap_seconds * (1 + index % 7 / 7))
            queue.sync.add("send", {"added_us": time.monotonic_ns() // 1000})
        queue.sync.close()
        wait_until(lambda: server.client.zcard(QueueKeys(contender.queue).completed) == jobs, "the end of all jobs")
        found = sorted(_return_values(server, contender.queue)[jobs // 20 :])
    return {"p50": found[len(found) // 2] / 1e3, "p99": found[int(len(found) * 0.99)] / 1e3}


@contextmanager
def awake() -> Iterator[None]:
    """Keep all CPUs awake by processes that run only when nothing else does: to wake one costs more than a message."""
    spinners = [
        subprocess.Popen([sys.executable, "-c", SPINNER], preexec_fn=die_with_parent) for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def fill(server: Server, queue_name: str, jobs: int, data: Any, options: dict[str, Any] | None = None) -> None:
    """Let jobs wait in a queue. One client fills the queues of all contenders: the layout is the same."""
    queue = Queue(queue_name, url=server.url)
    queue.sync.add_bulk([queue.draft("send", data, options)] * jobs)
    queue.sync.close()


def _watch(server: Server, worker: Process, queue_name: str, jobs: int) -> tuple[Moment, Moment]:
    """Wait until all jobs are completed; answer the moments after the first twentieth and at the end."""
    deadline = time.monotonic() + LIMIT_SECONDS
    key = QueueKeys(queue_name).completed
    first: Moment | None = None
    while True:
        completed = server.client.zcard(key)
        if (completed >= jobs * UNTIMED and first is None) or completed >= jobs:
            now = Moment(time.monotonic(), completed, server.cpu_seconds, worker.cpu_seconds)
            if completed >= jobs:
                assert first is not None, "all was done at the first look: take more jobs"
                return first, now
            first = now
        assert worker.is_running, "the worker has ended"
        assert time.monotonic() < deadline, f"{completed} of {jobs} jobs in {LIMIT_SECONDS:g} s"
        time.sleep(POLL_SECONDS)


def _return_values(server: Server, queue_name: str) -> list[int]:
    """What the completed jobs have returned, in the order of their ends."""
    keys = QueueKeys(queue_name)
    ids = cast("list[str]", server.client.zrange(keys.completed, 0, -1))
    pipeline = server.client.pipeline(transaction=False)
    for job_id in ids:
        pipeline.hget(keys.job(job_id), "returnvalue")
    return [int(value) for value in pipeline.execute()]


def _is_blocked(server: Server) -> bool:
    return any(client["cmd"] == "bzpopmin" for client in server.client.client_list())
