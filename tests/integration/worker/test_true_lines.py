"""What a worker says of Redis is true: while calls are refused, and after its own event loop stood still. And a worker
that may not take leaves when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support import workers
from support.redis_server import RedisServer
from support.waiting import wait_until, wait_until_async
from support.worker_inside import StartWorker
from toril import Queue, errors
from toril.errors import RedisReason
from toril.worker import fetcher

MODULE = """
import os
from toril import Queue
queue = Queue(os.environ["TORIL_QUEUE"])

@queue.task
def nothing() -> None:
    return None
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own: its users are changed."""
    started = RedisServer()
    yield started
    started.remove()


def let_in(server: RedisServer, *rights: str) -> str:
    """Make a user with these rights; returns the URL."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw", "&*", *rights)
    return f"redis://poor:pw@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("rights", [("~other:*", "+@all"), ("~*", "+@all", "-rpop", "-lmove", "-evalsha", "-eval")])
def test_a_worker_that_may_not_take_leaves_when_it_is_stopped(server: RedisServer, rights: tuple[str, ...]) -> None:
    worker = workers.spawn(let_in(server, *rights), "jobs", MODULE)
    try:
        wait_until(lambda: "Redis fails" in worker.log, "the refusal", timeout_seconds=60)
        # It may drain for ten minutes, but has nothing to wait for.
        assert worker.stop(timeout_seconds=60) == 0
    finally:
        worker.close()


def refused_waits(server: RedisServer) -> int:
    with server.client() as client:
        found = client.info("commandstats").get("cmdstat_bzpopmin", {})
    return int(found.get("rejected_calls", 0))


def test_redis_does_not_work_again_while_waits_are_refused(server: RedisServer) -> None:
    url = let_in(server, "~*", "+@all", "-bzpopmin")
    worker = workers.spawn(url, "jobs", MODULE)
    try:
        wait_until(lambda: refused_waits(server) >= 4, "some waits to be refused", timeout_seconds=60)
        assert "works again" not in worker.log
        assert worker.log.count("Redis fails") == 1
        let_in(server, "~*", "+@all")
        wait_until(lambda: "works again" in worker.log, "a wait to be carried out", timeout_seconds=60)
        assert worker.stop() == 0
    finally:
        worker.close()


async def test_an_answer_that_came_too_late_for_a_loop_that_stood_still_is_no_fault_of_redis(
    tasks: Queue, worker: StartWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetcher, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(fetcher, "BLOCKED_SECONDS", 0.2)

    @tasks.task
    async def block() -> None:
        time.sleep(1)  # noqa: ASYNC251 - it is what is tested
        running._fetcher.record_failure(errors.RedisUnavailableError(RedisReason.TIMEOUT, "no answer in time"))

    async with worker(tasks, name="w") as running:
        job = await block.enqueue()
        await job.result(timeout=60)

        async def is_told() -> bool:
            return "the event loop stood still" in caplog.text

        await wait_until_async(is_told, "a line about the loop")
        assert "Redis fails" not in caplog.text
        running._fetcher.record_failure(errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "cut"))
        assert "Redis fails: cut" in caplog.text
