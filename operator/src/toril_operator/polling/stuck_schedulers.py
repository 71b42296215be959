"""Job schedulers that cannot be carried on, of the queues that are read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from toril.engine.redis.connection import AsyncConnection
from toril.engine.schedulers import JobSchedulers
from toril.jobs.signals import QueueSignals
from toril_operator.object_cache import Key
from toril_operator.polling.targets import Target

LOOK_MS = 60_000
"""Schedulers are looked at so often, and only while a slot is over for long: a poll costs no call more else."""
LOOK_SECONDS = 4.0
"""Longest time for one look."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    at_ms: int
    stuck: Mapping[str, str]


class StuckSchedulers:
    """Remembers what the last look at each queue found."""

    def __init__(self) -> None:
        self._looks: dict[Key, _Look] = {}
        self._next_try_ms = 0
        """After a failure no queue is looked at for a while: each look would wait in vain."""

    def forget(self, key: Key) -> None:
        self._looks.pop(key, None)

    async def look(
        self, connection: AsyncConnection, key: Key, target: Target, signal: QueueSignals, now_ms: int
    ) -> Mapping[str, str]:
        """The ids of stuck schedulers, and why each is stuck.

        What was known stays after a look that fails, and while the number of overdue schedulers is unknown.

        Args:
            now_ms: monotonic clock.
        """
        if signal.overdue_schedulers == 0:
            self.forget(key)
            return {}
        last = self._looks.get(key)
        known = last.stuck if last is not None else {}
        if signal.overdue_schedulers is None:
            return known
        if now_ms < self._next_try_ms or (last is not None and now_ms - last.at_ms < LOOK_MS):
            return known
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                found = await JobSchedulers(connection, target.keys).stuck()
        except Exception as problem:
            # The server is chosen by whoever wrote the JobQueue: nothing that it answers may end the poller.
            logger.info("the job schedulers of %s cannot be read: %s", key, type(problem).__name__)
            self._next_try_ms = now_ms + LOOK_MS
            return known
        self._looks[key] = _Look(now_ms, found)
        return found
