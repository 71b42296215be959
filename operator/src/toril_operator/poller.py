"""Reads the queues of one Redis: all of them at a steady pace, and single ones earlier when their streams speak.

An event only wakes; the numbers always come from a reading. What cannot be read is published as unknown, with a
reason, and never as zero.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from toril import clock, errors
from toril.engine import events, inspector
from toril.engine.connection import AsyncConnection, BlockingConnection
from toril.engine.keys import QueueKeys
from toril.engine.settings import RedisSettings
from toril.errors import RedisReason
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown
from toril_operator import endpoints
from toril_operator.registry import Key

CALL_SECONDS = 2.0
"""Longest time for one call, of at most 100 queues."""
MAX_REPLY_BYTES = 1024 * 1024
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Pauses after the first, second … failure in a row; the longest lets a return be noticed within 10 s."""
JITTER = 0.1
QUIET_IDLE_MS = 50
"""After a reading that found no work, the queue's events are not listened to for so long …"""
QUIET_BUSY_MS = 500
"""… and after one that found some, for so long: a busy queue must not be read for each of its events."""
DEAF_MS = 5000
"""After a failure of the listening connection, events are not listened to for so long."""
CLIENT_NAME = "toril-operator"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A queue to be read."""

    settings: RedisSettings
    queue: str
    prefix: str
    interval_ms: int
    keys: QueueKeys = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", QueueKeys(self.queue, self.prefix))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reading told."""

    signal: QueueSignals | Unknown
    reason: RedisReason | None
    """Why the signal is unknown; None when it is known."""
    taken_ms: int
    """Monotonic clock."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """Up to where a queue's events are covered by its last reading."""

    position: str
    listen_at_ms: int
    due_at_ms: int | None
    """When the first delayed job will be due; monotonic clock."""


class Poller:
    """One Redis endpoint and identity, with the queues that are read there."""

    def __init__(
        self, settings: RedisSettings, publish: Callable[[Key, Snapshot], None], *, allow_special: bool
    ) -> None:
        self.settings = settings
        self.targets: dict[Key, Target] = {}
        self.calls = 0
        """Calls sent to Redis so far."""
        self.stepped_ms = clock.monotonic_ms()
        """When this last got somewhere, a failure being told included."""
        self._publish = publish
        self._allow_special = allow_special
        self._connection: AsyncConnection | None = None
        self._blocking: BlockingConnection | None = None
        self._heard: dict[Key, _Heard] = {}
        self._wake = asyncio.Event()
        self._full_at_ms = 0
        self._deaf_until_ms = 0
        self._failures = 0

    @property
    def interval_ms(self) -> int:
        return min((target.interval_ms for target in self.targets.values()), default=5000)

    @property
    def longest_silence_ms(self) -> int:
        """A poller that made no step for so long is stuck."""
        return max(5 * self.interval_ms, 120_000)

    def set_target(self, key: Key, target: Target | None) -> None:
        if target is None:
            self.targets.pop(key, None)
            self._heard.pop(key, None)
            return
        self.targets[key] = target
        self.wake()

    def wake(self) -> None:
        """Read everything now, also while a pause after a failure is going on."""
        self._wake.set()

    async def connection(self) -> AsyncConnection:
        """The connection for commands, to addresses that were looked at.

        Raises:
            RedisError: the endpoint's name is not known, or its address is refused.
        """
        if self._connection is None:
            resolved = await endpoints.resolve(self.settings, allow_special=self._allow_special)
            self._connection = AsyncConnection(
                resolved, client_name=CLIENT_NAME, timeout_seconds=CALL_SECONDS, max_reply_bytes=MAX_REPLY_BYTES
            )
            self._blocking = BlockingConnection(
                resolved, client_name=CLIENT_NAME, connect_timeout_seconds=CALL_SECONDS, max_reply_bytes=MAX_REPLY_BYTES
            )
        return self._connection

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                keys = await self._next_keys()
                wanted = {key: self.targets[key] for key in keys if key in self.targets}
                if len(wanted) == len(self.targets):
                    self._full_at_ms = clock.monotonic_ms() + self._jittered(self.interval_ms)
                if wanted:
                    await self._read(wanted)
                self.stepped_ms = clock.monotonic_ms()
        finally:
            await self._disconnect()

    async def _read(self, targets: Mapping[Key, Target]) -> None:
        """Read some queues and publish what came of it, whatever it is."""
        try:
            # The server is chosen by whoever wrote the JobQueue: nothing that it answers may end this loop.
            async with asyncio.timeout(CALL_SECONDS * (3 + len(targets) / inspector.QUEUES_PER_CALL)):
                found, position = await self._signals(targets)
        except errors.RedisError as problem:
            logger.debug("reading failed: %s", problem)
            await self._fail(problem.reason)
        except TimeoutError:
            await self._fail(RedisReason.TIMEOUT)
        except Exception as problem:
            logger.warning("Redis %s gave an answer of no sense: %s", self.settings.endpoint, type(problem).__name__)
            await self._fail(RedisReason.PROTOCOL_ERROR)
        else:
            self._failures = 0
            now_ms = clock.monotonic_ms()
            for key, signal in found.items():
                self._note(key, signal, position, now_ms)

    async def _signals(self, targets: Mapping[Key, Target]) -> tuple[dict[Key, QueueSignals | errors.RedisError], str]:
        connection = await self.connection()
        # Before the reading: events that come while it goes on are heard afterwards.
        position = await events.position_now(connection)
        self.calls += 1 + -(-len(targets) // inspector.QUEUES_PER_CALL)
        queues = [target.keys for target in targets.values()]
        found = await inspector.read_signals(connection, queues, with_locks=True)
        return dict(zip(targets, found, strict=True)), position

    def _note(self, key: Key, signal: QueueSignals | errors.RedisError, position: str, now_ms: int) -> None:
        if isinstance(signal, errors.RedisError):
            self._publish(key, self._unknown(signal.reason))
            return
        due_at_ms = None
        if signal.next_due_ms is not None and signal.next_due_ms >= signal.server_time_ms:
            due_at_ms = now_ms + signal.next_due_ms - signal.server_time_ms + 1
        quiet_ms = QUIET_BUSY_MS if signal.work else QUIET_IDLE_MS
        self._heard[key] = _Heard(position, now_ms + quiet_ms, due_at_ms)
        self._publish(key, Snapshot(signal, None, now_ms))

    def _unknown(self, reason: RedisReason) -> Snapshot:
        return Snapshot(Unknown(endpoints.explain(reason, self.settings)), reason, clock.monotonic_ms())

    async def _fail(self, reason: RedisReason) -> None:
        """All queues of this endpoint are unknown; connect anew after a pause."""
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        await self._disconnect()
        self._full_at_ms = clock.monotonic_ms() + self._jittered(int(1000 * pause))
        for key in tuple(self.targets):
            self._publish(key, self._unknown(reason))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        blocking, self._blocking = self._blocking, None
        self._heard.clear()
        if connection is not None:
            await connection.close()
        if blocking is not None:
            await blocking.close()

    async def _next_keys(self) -> list[Key]:
        """Wait until something is to be read, and answer what."""
        while True:
            now_ms = clock.monotonic_ms()
            if self._wake.is_set() or now_ms >= self._full_at_ms:
                self._wake.clear()
                return list(self.targets)
            if due := [key for key, heard in self._heard.items() if heard.due_at_ms and heard.due_at_ms <= now_ms]:
                return due
            moments = [self._full_at_ms]
            moments += [heard.due_at_ms for heard in self._heard.values() if heard.due_at_ms]
            moments += [heard.listen_at_ms for heard in self._heard.values() if heard.listen_at_ms > now_ms]
            if spoken := await self._listen(now_ms, max(1, min(moments) - now_ms)):
                return spoken

    async def _listen(self, now_ms: int, wait_ms: int) -> list[Key]:
        """Wait for an event of a queue that is listened to, for `wake`, or for the time to pass."""
        streams: dict[str, list[Key]] = {}
        positions: dict[str, str] = {}
        for key, heard in self._heard.items():
            if heard.listen_at_ms <= now_ms and now_ms >= self._deaf_until_ms:
                stream = self.targets[key].keys.events
                streams.setdefault(stream, []).append(key)
                positions[stream] = heard.position
        waking = asyncio.create_task(self._wake.wait())
        reading = asyncio.create_task(self._spoken(positions, wait_ms)) if positions else None
        tasks = {waking, reading} if reading else {waking}
        try:
            await asyncio.wait(tasks, timeout=wait_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A read that goes on is cut off, and with it its connection: only when woken or out of time.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if reading is None or reading.cancelled():
            return []
        return [key for stream in reading.result() for key in streams.get(stream, ()) if key in self.targets]

    async def _spoken(self, positions: Mapping[str, str], wait_ms: int) -> list[str]:
        """The streams with an event after their position; none when the connection fails: a reading tells why."""
        assert self._blocking is not None
        # The server ends the wait a little early, so that its connection need not be cut.
        block_ms = max(1, wait_ms - 20)
        began_ms = clock.monotonic_ms()
        found: list[str] = []
        try:
            found = [stream for stream, _ in await self._blocking.read_stream(positions, block_ms=block_ms, count=1)]
        except errors.RedisError:
            self._deaf_until_ms = clock.monotonic_ms() + DEAF_MS
            self._full_at_ms = 0
        except Exception as problem:
            logger.warning("Redis %s gave an answer of no sense: %s", self.settings.endpoint, type(problem).__name__)
            self._deaf_until_ms = clock.monotonic_ms() + DEAF_MS
        if not found and clock.monotonic_ms() - began_ms < block_ms // 2:
            # It does not wait as Redis does: asking on and on would keep us busy with this one alone.
            self._deaf_until_ms = clock.monotonic_ms() + DEAF_MS
        return found

    def _jittered(self, duration_ms: int) -> int:
        return int(duration_ms * random.uniform(1 - JITTER, 1 + JITTER))


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
            self._leave(key, old)
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

    def _leave(self, key: Key, target: Target) -> None:
        self._snapshots.pop(key, None)
        poller = self._pollers[target.settings]
        poller.set_target(key, None)
        if not poller.targets:
            del self._pollers[target.settings]
            self._tasks.pop(target.settings).cancel()
