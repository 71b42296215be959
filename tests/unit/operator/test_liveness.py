"""`/livez` of the operator tells of its own standstill."""

from __future__ import annotations

import asyncio

import pytest

from support.waiting import wait_until_async
from toril import clock
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril_operator import manager
from toril_operator.manager import Manager
from toril_operator.object_cache import Key, Kind
from toril_operator.polling.targets import Target
from toril_operator.settings import Settings


class Clock:
    """A monotonic clock that a test sets forward."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "monotonic_ms", made)
    return made


@pytest.mark.requirement("T73")
async def test_a_main_loop_that_stands_still(time: Clock) -> None:
    operator = Manager(Settings(worker_image="w"))
    assert operator._livez()[0] == 200
    time.now_ms += manager.LONGEST_HEARTBEAT_MS
    assert operator._livez()[0] == 200
    time.now_ms += 1
    code, _, body = operator._livez()
    assert (code, body) == (500, "the main loop stands still\n")
    beating = asyncio.create_task(operator._heartbeat())
    await asyncio.sleep(0)
    assert operator._livez()[0] == 200
    beating.cancel()


@pytest.mark.requirement("T73")
async def test_a_turn_that_never_ends(time: Clock) -> None:
    operator = Manager(Settings(worker_image="w"))
    begun = asyncio.Event()

    async def hangs(key: Key) -> None:
        begun.set()
        await asyncio.Event().wait()

    operator._queues[Kind.JOB_QUEUE].add(Key("team", "email"))
    working = asyncio.create_task(operator._queues[Kind.JOB_QUEUE].process_loop(hangs))
    await asyncio.wait_for(begun.wait(), 30)
    time.now_ms += manager.LONGEST_TURN_MS + 1
    operator._beat_ms = time.now_ms
    code, _, body = operator._livez()
    assert (code, body) == (500, "a JobQueue is being looked at for too long\n")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.requirement("T73")
async def test_a_poller_that_makes_no_step_and_one_whose_redis_is_away(time: Clock) -> None:
    operator = Manager(Settings(worker_image="w", allow_special_addresses=True))
    settings = RedisSettings(host="127.0.0.1", port=1)
    key = Key("team", "email")
    operator._pollers.set_target(key, Target(settings, "email", "bull", 5000))
    # Nobody listens there: told as unknown, again and again, which is all that a poller can do.
    await wait_until_async(lambda: tells(operator, key), "the first reading to fail")
    assert operator._livez()[0] == 200
    await operator._pollers.close()
    code, _, body = operator._livez()
    assert (code, body) == (500, "the poller of Redis 127.0.0.1:1/0 stands still\n")


async def tells(operator: Manager, key: Key) -> bool:
    snapshot = operator._pollers.snapshot(key)
    # A machine that stands still for a moment may make a late answer of it.
    return snapshot is not None and snapshot.reason in (RedisReason.CONNECTION_REFUSED, RedisReason.TIMEOUT)
