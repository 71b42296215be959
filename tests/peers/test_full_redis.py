"""What BullMQ 6 does when Redis is at `maxmemory`, in the states in which our scripts are tried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from support.engine import open_queue
from support.full_redis import CASES, QUEUE, Case
from support.node_peer import Handle, NodePeer, Peer, PeerError
from support.redis_server import RedisServer

WITH_THEIR_CALL = [case for case in CASES if case.theirs]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server whose memory these tests limit."""
    started = RedisServer()
    yield started
    started.remove()


@pytest.fixture
async def peer(nodes: Callable[[str], NodePeer], server: RedisServer, queue_name: str) -> AsyncIterator[Peer]:
    with server.client() as client:
        client.flushall()
    opened = Peer(nodes("6"), server.url, queue_name)
    opened.expected_error = "OOM"
    await opened.start()
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", WITH_THEIR_CALL, ids=lambda case: f"{case.script}-{case.theirs[1]}")
async def test_bullmq_in_the_same_state(peer: Peer, server: RedisServer, queue_name: str, case: Case) -> None:
    async with open_queue(server.url, queue_name) as queue:
        await case.prepare(queue)
        call = await their_call(peer, case)
        with server.full():
            refusal = await refusal_of(call)
    assert (refusal is None) == case.they_pass, refusal


Theirs = Callable[[], Any]


async def their_call(peer: Peer, case: Case) -> Theirs:
    """BullMQ's call, with all that it needs but the call itself."""
    target, method, *args = filled(list(case.theirs), peer.queue_name)
    if method == "failJob":
        return lambda: peer.node.request("failJob", handle=peer.queue.number, jobId=target, message="no", token=args[0])
    if target == "queue":
        return lambda: peer.queue.call(method, *args)
    if target in ("worker", "flows"):
        handle = await (peer.worker(autorun=False) if target == "worker" else peer.flows())
        return lambda: told_call(handle, method, *args)
    return lambda: peer.queue.job(target, method, *args)


async def told_call(handle: Handle, method: str, *args: Any) -> Any:
    """Call a method. Raises PeerError also with what the object tells as an error event only."""
    answer = await handle.call(method, *args)
    for event in await handle.events():
        if event["event"] == "error":
            raise PeerError("Error", event["message"])
    return answer


def filled(value: Any, queue_name: str) -> Any:
    """The arguments with the queue's name in place of `QUEUE`."""
    if isinstance(value, list):
        return [filled(part, queue_name) for part in value]
    if isinstance(value, dict):
        return {key: filled(part, queue_name) for key, part in value.items()}
    return value.replace(QUEUE, queue_name) if isinstance(value, str) else value


async def refusal_of(call: Theirs) -> PeerError | None:
    """What Redis's refusal for memory became; None = BullMQ did it. Raises whatever else it says."""
    try:
        await call()
    except PeerError as problem:
        # A transaction of which Redis has refused a part is discarded.
        if not str(problem).startswith(("OOM", "EXECABORT")):
            raise
        return problem
    return None
