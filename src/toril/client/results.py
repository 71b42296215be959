"""Waits for the ends of jobs: on an event loop by the queue's events, in a thread by reading the job repeatedly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toril import errors
from toril.client.operations import not_found
from toril.engine import operations
from toril.jobs import codec
from toril.jobs.job import JobRecord, JobState

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.engine.events import QueueEvent
    from toril.engine.keys import QueueKeys
    from toril.engine.redis.connection import AsyncConnection, BlockingConnection
    from toril.engine.redis.settings import RedisSettings

RECHECK_SECONDS = 10.0
"""How often a waiting caller looks at the job itself, in case an event was trimmed away or Redis was restarted."""
LOOK_SECONDS = 0.25
"""How often a waiting caller without an event loop looks at the job."""
RETRY_SECONDS = 1.0
"""How long a waiting caller leaves a Redis alone that did not answer."""
LINGER_SECONDS = 2.0
"""How long the reader of events stays after the last waiting caller has left."""
CLOCK_SKEW_MS = 60_000
"""By how much this machine's clock may be ahead of Redis's when old events are searched."""


class ResultWaiter:
    """Waits for many jobs of one queue with one reader of its events. Belongs to one event loop."""

    def __init__(self, settings: RedisSettings, connection: AsyncConnection, keys: QueueKeys) -> None:
        from toril.engine.getters import Inspector

        self._settings = settings
        self._connection = connection
        self._keys = keys
        self._inspector = Inspector(connection, keys)
        self._waiting: dict[str, set[asyncio.Future[QueueEvent | None]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._blocking: BlockingConnection | None = None
        self._starting = asyncio.Lock()
        self._idle_timer: asyncio.TimerHandle | None = None

    async def result(self, job_id: str, since_ms: int, timeout: float | None) -> Any:
        """As `QueueClient.result`."""
        try:
            async with asyncio.timeout(timeout):
                return await self.wait(job_id, since_ms)
        except TimeoutError:
            raise _timed_out(job_id, self._keys.queue, timeout) from None

    async def wait(self, job_id: str, since_ms: int) -> Any:
        """Wait for a job's end. `since_ms`: when it was added or later, for a job that is gone already."""
        loop = asyncio.get_running_loop()
        was_reached = False
        while True:
            future: asyncio.Future[QueueEvent | None] = loop.create_future()
            self._waiting.setdefault(job_id, set()).add(future)
            try:
                await self._ensure_reader()
                # Looked at only after the reader's position is fixed: no end can fall between the two.
                state, job = await self._inspector.state_and_job(job_id)
                was_reached = True
                if job is None:
                    return await self._end_of_gone(job_id, since_ms)
                if state in (JobState.COMPLETED, JobState.FAILED):
                    return _outcome(state, job)
                event = await asyncio.wait_for(future, RECHECK_SECONDS)
                if event is not None:
                    return await self._outcome_of(event, job_id)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                was_reached = _was_reached(problem, was_reached)
                await asyncio.sleep(RETRY_SECONDS)
            except TimeoutError:
                if not future.done() or future.cancelled():
                    continue
                raise
            finally:
                self._forget(job_id, future)

    async def close(self) -> None:
        self._cancel_idle_timer()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    # ---- the reader

    async def _ensure_reader(self) -> None:
        from toril.engine import events

        async with self._starting:
            if self._reader is None or self._reader.done():
                position = await events.position_now(self._connection)
                self._reader = asyncio.create_task(self._read_loop(position), name="toril result reader")

    async def _read_loop(self, position: str) -> None:
        from toril.engine import events
        from toril.engine.redis.connection import BlockingConnection

        blocking = BlockingConnection(self._settings, client_name=self._keys.client_name(":qe"))
        self._blocking = blocking
        try:
            while True:
                try:
                    async for event in events.read_events(blocking, self._keys, position):
                        position = event.id
                        self._pass_on(event)
                except errors.RedisError:
                    await asyncio.sleep(0.5)
        finally:
            await blocking.close()

    def _pass_on(self, event: QueueEvent) -> None:
        if event.job_id not in self._waiting or event.name not in ("completed", "failed", "removed"):
            return
        for future in self._waiting[event.job_id]:
            if not future.done():
                # A removed job is looked for anew: that says what there is to say.
                future.set_result(None if event.name == "removed" else event)

    def _forget(self, job_id: str, future: asyncio.Future[QueueEvent | None]) -> None:
        future.cancel()
        waiting = self._waiting.get(job_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[job_id]
        if not self._waiting:
            self._cancel_idle_timer()
            self._idle_timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop_if_idle)

    def _cancel_idle_timer(self) -> None:
        timer, self._idle_timer = self._idle_timer, None
        if timer is not None:
            timer.cancel()

    def _stop_if_idle(self) -> None:
        self._idle_timer = None
        if not self._waiting and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    # ---- outcomes

    async def _outcome_of(self, event: QueueEvent, job_id: str) -> Any:
        if event.name == "completed":
            return _return_value(event)
        job = await self._inspector.job(job_id)
        raise _failure(event, job_id, job.stacktrace if job is not None else ())

    async def _end_of_gone(self, job_id: str, since_ms: int) -> Any:
        """A job that is not kept leaves only its event."""
        from toril.engine import events

        ended = events.find_end(self._keys, job_id, since_ms=since_ms - CLOCK_SKEW_MS)
        event = await operations.execute(self._connection, ended)
        if event is None:
            raise not_found(job_id, self._keys.queue)
        return await self._outcome_of(event, job_id)


def _was_reached(problem: errors.RedisUnavailableError | errors.UnknownOutcomeError, before: bool) -> bool:
    """Whether Redis was there once: then a caller waits on. Raises the problem when waiting would be of no use."""
    reached = before or isinstance(problem, errors.UnknownOutcomeError)
    if not (reached and problem.temporary):
        raise problem
    return reached


def _outcome(state: JobState, job: JobRecord) -> Any:
    if state is JobState.COMPLETED:
        return job.return_value
    raise errors.JobFailedError(job.id, job.failed_reason or "", job.stacktrace)


def poll(client: QueueClient, job_id: str, since_ms: int, timeout: float | None) -> Any:
    """Wait for a job's end without an event loop. Reads the job every 10 ms at first, later every 250 ms.

    Raises as `QueueClient.result`.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.01
    was_reached = False
    while True:
        try:
            state, job = client.execute_sync(client.operations.state_and_job_or_none(job_id))
            was_reached = True
            if job is None:
                return _end_of_gone(client, job_id, since_ms)
            if state in (JobState.COMPLETED, JobState.FAILED):
                return _outcome(state, job)
        except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
            was_reached = _was_reached(problem, was_reached)
            pause = RETRY_SECONDS
        left = pause if deadline is None else min(pause, deadline - time.monotonic())
        if left <= 0:
            raise _timed_out(job_id, client.name, timeout)
        time.sleep(left)
        pause = min(pause * 1.5, LOOK_SECONDS)


def _end_of_gone(client: QueueClient, job_id: str, since_ms: int) -> Any:
    """A job that is not kept leaves only its event. Raises JobFailedError, JobNotFoundError."""
    from toril.engine import events

    event = client.execute_sync(events.find_end(client.keys, job_id, since_ms=since_ms - CLOCK_SKEW_MS))
    if event is None:
        raise not_found(job_id, client.name)
    if event.name == "completed":
        return _return_value(event)
    raise _failure(event, job_id, ())


def _return_value(event: QueueEvent) -> Any:
    return codec.decode(event.texts.get("returnvalue") or "null", "return value")


def _failure(event: QueueEvent, job_id: str, trace: Sequence[str]) -> errors.JobFailedError:
    return errors.JobFailedError(job_id, event.texts.get("failedReason", ""), tuple(trace))


def _timed_out(job_id: str, queue_name: str, timeout: float | None) -> errors.ResultTimeoutError:
    return errors.ResultTimeoutError(f"job {job_id} of queue {queue_name}: {timeout:g} s over")
