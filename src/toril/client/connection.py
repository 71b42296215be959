"""What one queue needs to reach Redis: names, settings, defaults, and a connection for each event loop.

Whatever sends a request to Redis for a user holds a `QueueClient`: `Queue`, `JobHandle`, `Draft`, tasks, schedulers.
Modules of the engine are imported when the first request is made: to define tasks needs none of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from toril import errors
from toril.engine.keys import QueueKeys
from toril.engine.redis.secret import Secret
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

if TYPE_CHECKING:
    from toril.client.loop_client import LoopClient
    from toril.client.operations import QueueOperations
    from toril.engine.events import QueueEvents
    from toril.engine.operations import Operation
    from toril.engine.producer import SyncProducer
    from toril.engine.queue_defaults import KnownDefaults
    from toril.engine.redis.settings import RedisSettings
    from toril.engine.scripts import Layout

R = TypeVar("R")


class QueueClient:
    """One queue in Redis, for producers. Making a client connects to nothing.

    Each event loop has its own connection. Threads without an event loop share one connection and wait for each other.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        prefix: str = "bull",
        paused_layout: Layout | None = None,
        default_job_options: Mapping[str, Any],
    ) -> None:
        """Args as of `Queue`; `default_job_options` have BullMQ's names and units. Raises InvalidOptionError."""
        self.name = name
        self.keys = QueueKeys(name, prefix)
        self._url = Secret(url) if url else None
        self._settings: RedisSettings | None = None
        if paused_layout not in (None, "5", "6"):
            raise errors.InvalidOptionError("paused_layout", "must be 5 or 6, as text")
        self._paused_layout: Layout | None = paused_layout
        self.default_job_options = default_job_options
        """Options of every job added through this client, unless its task or call says otherwise."""
        self._default_options = JobOptions.from_bullmq(default_job_options)
        self._of_threads: dict[Literal["producer"], SyncProducer] = {}
        """The producer that threads share, once one has sent a request.

        `setdefault` and `pop` of a dict need no lock, which a signal handler or a forked process could find held.
        """

    # ---- settings

    @property
    def settings(self) -> RedisSettings:
        """Where Redis is. Raises SettingsError when URL or environment are wrong."""
        if self._settings is None:
            from toril.engine.redis.settings import RedisSettings

            url = self._url.reveal() if self._url else None
            self._settings = RedisSettings.from_environment(os.environ, url=url)
        return self._settings

    @property
    def paused_layout(self) -> Layout:
        """Where jobs wait while the queue is paused. Raises SettingsError when the environment is wrong."""
        if self._paused_layout is None:
            from toril.engine.redis.settings import paused_layout_from

            self._paused_layout = paused_layout_from(os.environ)
        return self._paused_layout

    @functools.cached_property
    def known_defaults(self) -> KnownDefaults:
        """The copy of the queue's defaults in Redis that all event loops and threads share."""
        from toril.engine.queue_defaults import KnownDefaults

        return KnownDefaults(self.keys)

    @functools.cached_property
    def operations(self) -> QueueOperations:
        """The operations of this queue on checked input. Raises SettingsError as `paused_layout`."""
        from toril.client.operations import QueueOperations

        return QueueOperations(self.keys, self.paused_layout)

    def new_job(self, name: str, data: Any, opts: Mapping[str, Any] | None) -> NewJob:
        """A checked job with this client's default options. Raises InvalidOptionError, InvalidPayloadError."""
        options = self._default_options
        if opts:
            options = JobOptions.from_bullmq({**self.default_job_options, **opts})
        return NewJob.create(name, data, options)

    # ---- with an event loop

    def add(self, jobs: Iterable[NewJob]) -> Coroutine[Any, Any, list[str]]:
        """Add checked jobs and return their ids, in order. Raises as `Producer.add`."""
        return self._of_loop(self).producer.add(jobs)

    async def execute(self, operation: Operation[R]) -> R:
        """Execute an operation. Raises RedisError, and what the operation raises."""
        from toril.engine import operations

        connection = self._of_loop(self).connection
        try:
            return await operations.execute(connection, operation)
        except errors.WrongKeyTypeError as problem:
            from toril.engine.redis import key_types

            raise await operations.execute(connection, key_types.name_wrong_key(self.keys, problem)) from None

    async def result(self, job_id: str, since_ms: int, timeout: float | None) -> Any:
        """Wait for a job's end and return its return value. Raises as `JobHandle.result`.

        Args:
            since_ms: a moment before the job's end, Unix milliseconds: older events are not searched.
            timeout: seconds; None = no limit.
        """
        return await self._of_loop(self).waiter.result(job_id, since_ms, timeout)

    def events(self, after: str) -> QueueEvents:
        """As `Queue.events`."""
        return self._of_loop(self).events(after)

    async def close(self) -> None:
        """Close the running event loop's connection; the next request opens a new one."""
        from toril.client import loop_client

        await loop_client.close(self)

    @functools.cached_property
    def _of_loop(self) -> Callable[[QueueClient], LoopClient]:
        """`loop_client.of`, kept: an import in each call costs as much as to check a job."""
        from toril.client import loop_client

        return loop_client.of

    # ---- without an event loop

    def add_sync(self, jobs: Iterable[NewJob]) -> list[str]:
        """Add checked jobs and return their ids, in order. Raises as `Producer.add`."""
        return self._open().add(jobs)

    def execute_sync(self, operation: Operation[R]) -> R:
        """Execute an operation. Raises RedisError, and what the operation raises."""
        from toril.engine import operations

        connection = self._open().connection
        try:
            return operations.execute_sync(connection, operation)
        except errors.WrongKeyTypeError as problem:
            from toril.engine.redis import key_types

            raise operations.execute_sync(connection, key_types.name_wrong_key(self.keys, problem)) from None

    def result_sync(self, job_id: str, since_ms: int, timeout: float | None) -> Any:
        """Wait for a job's end and return its return value, as `result`: the job is read again and again."""
        from toril.client import results

        return results.poll(self, job_id, since_ms, timeout)

    def close_sync(self) -> None:
        """Close the connection of threads without an event loop; the next request opens a new one."""
        producer = self._of_threads.pop("producer", None)
        if producer is not None:
            producer.connection.close()

    def _open(self) -> SyncProducer:
        producer = self._of_threads.get("producer")
        if producer is None:
            from toril.engine.producer import SyncProducer
            from toril.engine.redis.sync_connection import SyncConnection

            connection = SyncConnection(self.settings)
            made = SyncProducer(connection, self.keys, layout=self.paused_layout, defaults=self.known_defaults)
            # Of the producers of threads that come here at the same time, one is kept. None has connected yet.
            producer = self._of_threads.setdefault("producer", made)
        return producer

    def __repr__(self) -> str:
        return f"<QueueClient of queue {self.name}>"
