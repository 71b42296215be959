"""The operator's look at series that cannot be carried on, on a real Redis."""

from __future__ import annotations

from dataclasses import replace

from support import ports
from support.engine import EngineQueue
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.jobs.signals import QueueSignals
from toril_operator.object_cache import Key
from toril_operator.polling.stuck_schedulers import LOOK_MS, StuckSchedulers
from toril_operator.polling.targets import Target

KEY = Key("team", "email")
OVERDUE = QueueSignals(overdue_schedulers=1)


def store(stored: EngineQueue, scheduler_id: str) -> None:
    stored.raw.hset(f"{stored.keys.repeat}:{scheduler_id}", mapping={"pattern": "FREQ=DAILY", "ic": 1})
    stored.raw.zadd(stored.keys.repeat, {scheduler_id: 1000})


async def test_schedulers_are_read_only_while_one_is_overdue_and_seldom(stored: EngineQueue, redis_url: str) -> None:
    settings = RedisSettings.from_url(redis_url)
    target = Target(settings, stored.keys.queue, stored.keys.prefix, 5000)
    away = AsyncConnection(replace(settings, port=ports.free_port()), client_name="test", timeout_seconds=1.0)
    stuck = StuckSchedulers()
    store(stored, "odd")

    async def look(connection: AsyncConnection, signal: QueueSignals, now_ms: int) -> list[str]:
        return sorted(await stuck.look(connection, KEY, target, signal, now_ms))

    assert await look(stored.connection, QueueSignals(), 0) == []
    assert await look(stored.connection, OVERDUE, 0) == ["odd"]
    store(stored, "other")
    assert await look(stored.connection, OVERDUE, LOOK_MS - 1) == ["odd"]
    # A look that fails leaves what was known, and the next one waits.
    assert await look(away, OVERDUE, LOOK_MS) == ["odd"]
    assert await look(stored.connection, OVERDUE, 2 * LOOK_MS - 1) == ["odd"]
    assert await look(stored.connection, OVERDUE, 2 * LOOK_MS) == ["odd", "other"]
    # An unknown number of overdue schedulers leaves what was known, and asks nothing.
    assert await look(away, QueueSignals(overdue_schedulers=None), 3 * LOOK_MS) == ["odd", "other"]
    assert await look(stored.connection, QueueSignals(), 3 * LOOK_MS + 1) == []
    await away.close()
