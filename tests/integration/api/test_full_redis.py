"""Every way of adding or storing, by our clients and the command line, when Redis is at `maxmemory`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.contents import contents
from support.local_mode import toril
from support.redis_server import RedisServer
from toril import JobHandle, Queue, errors, flow
from toril.cli.output import ExitCode
from toril.errors import RedisReason

Call = Callable[[Queue, JobHandle[Any]], Any]

ASYNC: dict[str, Call] = {
    "add": lambda queue, job: queue.add("name", 1),
    "add with an id": lambda queue, job: queue.add("name", 1, {"jobId": "own"}),
    "add_bulk": lambda queue, job: queue.add_bulk([queue.draft("name", number) for number in range(500)]),
    "flow": lambda queue, job: flow(queue.draft("name", 1), [queue.draft("name", 2)]).enqueue(),
    "schedulers.upsert": lambda queue, job: queue.schedulers.upsert("s", every=3600),
    "update_data": lambda queue, job: job.update_data(2),
    "progress": lambda queue, job: job.progress(2),
    "log": lambda queue, job: job.log("row"),
    "publish_event": lambda queue, job: queue.publish_event("name"),
}
SYNC: dict[str, Call] = {
    "add": lambda queue, job: queue.sync.add("name", 1),
    "add with an id": lambda queue, job: queue.sync.add("name", 1, {"jobId": "own"}),
    "add_bulk": lambda queue, job: queue.sync.add_bulk([queue.draft("name", number) for number in range(500)]),
    "flow": lambda queue, job: flow(queue.draft("name", 1), [queue.draft("name", 2)]).sync.enqueue(),
    "schedulers.upsert": lambda queue, job: queue.sync.schedulers.upsert("s", every=3600),
    "update_data": lambda queue, job: job.sync.update_data(2),
    "progress": lambda queue, job: job.sync.progress(2),
    "log": lambda queue, job: job.sync.log("row"),
    "publish_event": lambda queue, job: queue.sync.publish_event("name"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server whose memory these tests limit."""
    started = RedisServer()
    yield started
    started.remove()


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("call", [*ASYNC.values(), *SYNC.values()], ids=[*ASYNC, *(f"sync {name}" for name in SYNC)])
async def test_a_call_is_refused_with_what_to_do_and_writes_nothing(
    server: RedisServer, queue_name: str, call: Call
) -> None:
    async with Queue(queue_name, url=server.url) as queue:
        job = await queue.add("name", 1)
        with server.client() as client:
            before = contents(client)
            with server.full():
                with pytest.raises(
                    errors.RedisUnavailableError, match=r"is full: `maxmemory`.*Give Redis memory"
                ) as refusal:
                    await answer_of(call, queue, job)
                assert refusal.value.reason is RedisReason.OUT_OF_MEMORY
            assert contents(client) == before
        await answer_of(call, queue, job)


async def answer_of(call: Call, queue: Queue, job: JobHandle[Any]) -> None:
    # Calls without an event loop would stop this one.
    answer = await asyncio.to_thread(call, queue, job)
    if inspect.isawaitable(answer):
        await answer


def test_the_command_line_says_so_in_one_line(server: RedisServer, queue_name: str) -> None:
    with server.full():
        done = toril("job", "add", queue_name, "name", "--redis", server.url)
    assert (done.stdout, done.returncode) == ("", ExitCode.UNREACHABLE)
    assert len(done.stderr.splitlines()) == 1
    assert "is full: `maxmemory` is reached, and this call wrote nothing. Give Redis memory" in done.stderr
