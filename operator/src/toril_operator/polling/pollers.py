"""All pollers: one for each Redis endpoint and identity, made and ended as queues come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from toril import clock, errors
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril_operator.object_cache import Key
from toril_operator.polling.poller import Poller
from toril_operator.polling.targets import Snapshot, Target


class Pollers:
    """All pollers; a queue is moved to the poller of its Redis, and a poller without queues ends."""

    def __init__(self, publish: Callable[[Key, Snapshot, Snapshot | None], None], *, allow_special: bool) -> None:
        """Args: publish: gets each reading of a queue, and the one before it."""
        self._publish_outside = publish
        self._allow_special = allow_special
        self._pollers: dict[RedisSettings, Poller] = {}
        self._tasks: dict[RedisSettings, asyncio.Task[None]] = {}
        self._targets: dict[Key, Target] = {}
        self._snapshots: dict[Key, Snapshot] = {}

    def set_target(self, key: Key, target: Target | None) -> None:
        """Read this queue from now on; None = no more."""
        old = self._targets.get(key)
        if old == target:
            return
        if old is not None and (target is None or target.settings != old.settings):
            self._release(key, old)
        if target is None:
            self._targets.pop(key, None)
            return
        if old is not None and old.keys.base != target.keys.base:
            self._snapshots.pop(key, None)
        self._targets[key] = target
        self._poller(target.settings).set_target(key, target)

    def target(self, key: Key) -> Target | None:
        """What is read for a JobQueue; None when nothing is."""
        return self._targets.get(key)

    def snapshot(self, key: Key) -> Snapshot | None:
        """The last reading; None before the first."""
        return self._snapshots.get(key)

    def items(self) -> Iterable[tuple[Key, Target]]:
        return self._targets.items()

    def wake(self, key: Key) -> None:
        """Read this queue now."""
        if (target := self._targets.get(key)) is not None:
            self._poller(target.settings).wake()

    async def connection(self, key: Key) -> AsyncConnection:
        """The connection of a queue that is read. Raises as `Poller.connection` does."""
        return await self._poller(self._targets[key].settings).connection()

    def endpoints(self) -> set[RedisSettings]:
        """Every Redis that is read now, each as one user sees it."""
        return set(self._pollers)

    async def connection_to(self, settings: RedisSettings) -> AsyncConnection:
        """The connection to one of `endpoints`. Raises as `Poller.connection` does, or when it is none any more."""
        poller = self._pollers.get(settings)
        if poller is None:
            message = f"Redis {settings.endpoint} is read no more"
            raise errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, message)
        return await poller.connection()

    def stuck(self) -> list[str]:
        """Endpoints whose poller has stood still for too long or has ended."""
        now_ms = clock.monotonic_ms()
        return [
            settings.endpoint
            for settings, poller in self._pollers.items()
            if self._tasks[settings].done() or now_ms - poller.stepped_ms > poller.longest_silence_ms
        ]

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _publish(self, key: Key, snapshot: Snapshot) -> None:
        if key in self._targets:
            previous = self._snapshots.get(key)
            self._snapshots[key] = snapshot
            self._publish_outside(key, snapshot, previous)

    def _poller(self, settings: RedisSettings) -> Poller:
        if settings not in self._pollers:
            poller = self._pollers[settings] = Poller(settings, self._publish, allow_special=self._allow_special)
            self._tasks[settings] = asyncio.create_task(poller.run(), name=f"poller {settings.endpoint}")
        return self._pollers[settings]

    def _release(self, key: Key, target: Target) -> None:
        self._snapshots.pop(key, None)
        poller = self._pollers[target.settings]
        poller.set_target(key, None)
        if not poller.targets:
            del self._pollers[target.settings]
            self._tasks.pop(target.settings).cancel()
