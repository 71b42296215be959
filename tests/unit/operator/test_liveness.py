"""`/livez` of the operator reports its own standstill; `/readyz` waits for the first list."""

from __future__ import annotations

import asyncio

import pytest

from support.waiting import wait_until_async
from toril import clock
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril_operator import health
from toril_operator.health import Health
from toril_operator.informer import Informer
from toril_operator.object_cache import Key, Kind, ObjectCache
from toril_operator.polling.pollers import Pollers
from toril_operator.polling.targets import Target
from toril_operator.work_queue import WorkQueue


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


class Parts:
    """A health object, and what it watches; no API server and no watches are there."""

    def __init__(self) -> None:
        self.queues: dict[Kind, WorkQueue[Key]] = {kind: WorkQueue() for kind in (Kind.JOB_QUEUE,)}
        self.pollers = Pollers(lambda *_: None, allow_special=True)
        self.informer = Informer(
            ObjectCache(), self.queues, namespaces=(), before_list=lambda _: asyncio.sleep(0), on_blind=lambda: None
        )
        self.have_watches_ended = False
        self.health = Health(
            self.queues, self.pollers, self.informer, have_watches_ended=lambda: self.have_watches_ended
        )


@pytest.mark.requirement("T73")
async def test_a_main_loop_that_stands_still(time: Clock) -> None:
    operator = Parts().health
    assert operator.livez()[0] == 200
    time.now_ms += health.LONGEST_HEARTBEAT_MS
    assert operator.livez()[0] == 200
    time.now_ms += 1
    code, _, body = operator.livez()
    assert (code, body) == (500, "the main loop stands still\n")
    beating = asyncio.create_task(operator.beat_loop())
    await asyncio.sleep(0)
    assert operator.livez()[0] == 200
    beating.cancel()


@pytest.mark.requirement("T73")
async def test_a_turn_that_never_ends(time: Clock) -> None:
    parts = Parts()
    begun = asyncio.Event()

    async def hangs(key: Key) -> None:
        begun.set()
        await asyncio.Event().wait()

    queue = parts.queues[Kind.JOB_QUEUE]
    queue.add(Key("team", "email"))
    working = asyncio.create_task(queue.process_loop(hangs))
    await asyncio.wait_for(begun.wait(), 30)
    time.now_ms += health.LONGEST_TURN_MS + 1
    await parts.health.run_once()
    code, _, body = parts.health.livez()
    assert (code, body) == (500, "a JobQueue is being looked at for too long\n")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.requirement("T73")
async def test_a_poller_that_makes_no_step_and_one_whose_redis_is_away(time: Clock) -> None:
    parts = Parts()
    settings = RedisSettings(host="127.0.0.1", port=1)
    key = Key("team", "email")
    parts.pollers.set_target(key, Target(settings, "email", "bull", 5000))
    # No server listens there: the reading is unknown, again and again, which is all that a poller can do.
    await wait_until_async(lambda: reads(parts.pollers, key), "the first reading to fail")
    assert parts.health.livez()[0] == 200
    await parts.pollers.close()
    code, _, body = parts.health.livez()
    assert (code, body) == (500, "the poller of Redis 127.0.0.1:1/0 stands still\n")


async def test_watches_that_have_ended() -> None:
    parts = Parts()
    parts.have_watches_ended = True
    code, _, body = parts.health.livez()
    assert (code, body) == (500, "the watches have ended\n")


async def test_ready_once_everything_is_listed() -> None:
    parts = Parts()
    assert parts.health.readyz()[::2] == (503, "the resources of toril.dev are not there yet\n")
    parts.informer.has_types = True
    parts.informer.problem = "refused"
    assert parts.health.readyz()[::2] == (503, "the objects have not been listed yet: refused\n")
    parts.informer.listed.set()
    assert parts.health.readyz()[0] == 200


async def reads(pollers: Pollers, key: Key) -> bool:
    snapshot = pollers.snapshot(key)
    # A machine that stands still for a moment may make a late answer of it.
    return snapshot is not None and snapshot.reason in (RedisReason.CONNECTION_REFUSED, RedisReason.TIMEOUT)
