"""Reads the queues of one Redis: all of them at a steady pace, and single ones earlier when their streams speak.

An event only wakes; the numbers always come from a reading. What cannot be read is published as unknown, with a
reason, and never as zero.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toril import clock, errors
from toril.engine import events, getters
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown
from toril_operator.object_cache import Key
from toril_operator.polling import endpoints
from toril_operator.polling.stuck_schedulers import StuckSchedulers
from toril_operator.polling.targets import Snapshot, Target

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
        self.stepped_ms = clock.monotonic_ms()
        """When this last got somewhere, a failure being told included."""
        self._publish = publish
        self._allow_special = allow_special
        self._connection: AsyncConnection | None = None
        self._blocking: BlockingConnection | None = None
        self._heard: dict[Key, _Heard] = {}
        self._stuck = StuckSchedulers()
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
            self._stuck.forget(key)
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
        began_ms = clock.monotonic_ms()
        try:
            # The server is chosen by whoever wrote the JobQueue: nothing that it answers may end this loop.
            async with asyncio.timeout(CALL_SECONDS * (3 + len(targets) / getters.QUEUES_PER_CALL)):
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
                await self._note(key, signal, position, began_ms, now_ms)

    async def _signals(self, targets: Mapping[Key, Target]) -> tuple[dict[Key, QueueSignals | errors.RedisError], str]:
        connection = await self.connection()
        # Before the reading: events that come while it goes on are heard afterwards.
        position = await events.position_now(connection)
        queues = [target.keys for target in targets.values()]
        found = await getters.read_signals(connection, queues, with_locks=True)
        return dict(zip(targets, found, strict=True)), position

    async def _note(
        self, key: Key, signal: QueueSignals | errors.RedisError, position: str, began_ms: int, now_ms: int
    ) -> None:
        if isinstance(signal, errors.RedisError):
            self._publish(key, self._unknown(signal.reason))
            return
        due_at_ms = None
        if signal.next_due_ms is not None and signal.next_due_ms >= signal.server_time_ms:
            due_at_ms = now_ms + signal.next_due_ms - signal.server_time_ms + 1
        quiet_ms = QUIET_BUSY_MS if signal.work else QUIET_IDLE_MS
        self._heard[key] = _Heard(position, now_ms + quiet_ms, due_at_ms)
        target, connection = self.targets.get(key), self._connection
        if target is None or connection is None:
            return
        stuck = await self._stuck.look(connection, key, target, signal, now_ms)
        self._publish(key, Snapshot(signal, None, began_ms, stuck))

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
