"""Real BullMQ on one side of a queue, our engine on the other; every test runs with BullMQ 5 and with 6."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from support import node_peer
from support.engine import EngineQueue, open_queue
from support.node_peer import NodePeer, Peer

_REASON = node_peer.reason_not_to_run()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _REASON:
        for item in items:
            if "/peers/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.fixture(scope="session")
def nodes() -> Iterator[Callable[[str], NodePeer]]:
    """One Node process a version, for all tests that do not kill it."""
    running: dict[str, NodePeer] = {}

    def get(version: str) -> NodePeer:
        if version not in running:
            running[version] = NodePeer(version)
        return running[version]

    yield get
    for node in running.values():
        node.kill()


@pytest.fixture(params=["5", "6"], ids=["bullmq5", "bullmq6"])
def version(request: pytest.FixtureRequest) -> str:
    """The peer's major version."""
    return str(request.param)


@pytest.fixture
async def peer(nodes: Callable[[str], NodePeer], version: str, redis_url: str, queue_name: str) -> AsyncIterator[Peer]:
    """BullMQ's view of the queue."""
    opened = Peer(nodes(version), redis_url, queue_name)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def mortal_peer(version: str, redis_url: str, queue_name: str) -> AsyncIterator[Peer]:
    """Like `peer`, in a process of its own that a test may kill."""
    opened = Peer(NodePeer(version), redis_url, queue_name, owns_node=True)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def ours(redis_url: str, queue_name: str, version: str) -> AsyncIterator[EngineQueue]:
    """Our view of the same queue, with the layout of paused queues that fits the peer."""
    async with open_queue(redis_url, queue_name, "5" if version == "5" else "6") as opened:
        yield opened


@pytest.fixture
async def upper(redis_url: str, queue_name: str, version: str) -> AsyncIterator[EngineQueue]:
    """A second queue, which holds the parents of flows; like `ours`."""
    async with open_queue(redis_url, queue_name + "-up", "5" if version == "5" else "6") as opened:
        yield opened


@pytest.fixture
async def upper_peer(peer: Peer, upper: EngineQueue) -> AsyncIterator[Peer]:
    """BullMQ's view of the queue `upper`."""
    opened = Peer(peer.node, peer.url, upper.keys.queue)
    await opened.start()
    yield opened
    await opened.close()
