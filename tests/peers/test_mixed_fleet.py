"""Workers of Toril, BullMQ 5 and BullMQ 6 on one queue, killed and put to sleep at random, and Redis restarted."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support import chaos, soak
from support.chaos_load import Load, reckon
from support.engine import open_queue
from support.node_peer import NodePeer, Peer
from support.redis_server import RedisServer

KINDS = ("toril", "toril", "5", "6")
SEED = 20_260_100
ONE_OF_EACH = [
    "kill toril", "kill 5", "kill 6", "sleep toril", "sleep 6", "nap toril", "nap 5", "nap 6", "redis", "redis",
]  # fmt: skip
"""What happens in a short run, in an order that the seed decides."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """What it has acknowledged, it keeps."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.remove()


@pytest.fixture
async def fleet(server: RedisServer, queue_name: str, tmp_path: Path) -> AsyncIterator[chaos.Fleet]:
    fleet = chaos.Fleet(server, queue_name, tmp_path, KINDS, seed=SEED)
    yield fleet
    fleet.close()


def deeds(repeats: int) -> list[str]:
    chance = random.Random(SEED)
    return [*itertools.chain.from_iterable(chance.sample(ONE_OF_EACH, len(ONE_OF_EACH)) for _ in range(repeats))]


@pytest.mark.wire(100)
@pytest.mark.requirement("T20", "T108")
@pytest.mark.parametrize("jobs", soak.lengths(800, 10_000))
async def test_none_is_lost_and_none_runs_twice_without_a_reason(
    server: RedisServer, fleet: chaos.Fleet, nodes: Callable[[str], NodePeer], queue_name: str, jobs: int
) -> None:
    """Delays, priorities, retries and flows; added by Toril and by BullMQ while the workers suffer."""
    async with open_queue(server.url, queue_name) as queue:
        five, six = Peer(nodes("5"), server.url, queue_name), Peer(nodes("6"), server.url, queue_name)
        await asyncio.gather(five.start(), six.start(), fleet.start())
        # Only now: each BullMQ Queue writes its default.
        queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", 10_000_000)
        flows = await six.flows()
        load = Load(queue, fleet, seed=SEED, pause_seconds=0.15)
        share = jobs // 10
        await asyncio.gather(
            load.add_ours(4 * share), load.add_theirs(five.queue, 2 * share), load.add_theirs(six.queue, 2 * share),
            load.add_flows(flows, share // 2), fleet.hurt(deeds(max(1, jobs // 800))),
        )  # fmt: skip
        await reckon(queue, server, fleet, load, f"mixed fleet, seed {SEED}")
        for peer in (five, six):
            counts = await peer.queue.call("getJobCounts")
            assert {state: count for state, count in counts.items() if count} == {"completed": jobs}
            await peer.queue.close()
        await flows.close()
