"""A job from the outside: where it is, and what came of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from toril import clock, errors
from toril.engine import administration, flows, getters
from toril.enqueue_options import Duration, milliseconds
from toril.job_context import log_row
from toril.jobs import codec
from toril.jobs.children import Children
from toril.jobs.job import JobRecord, JobState
from toril.queue_control import checked_priority, finished_state

if TYPE_CHECKING:
    from toril.engine.events import QueueEvent
    from toril.engine.flows import JobTree
    from toril.engine.getters import JobLogs
    from toril.engine.keys import QueueKeys
    from toril.engine.operations import Operation
    from toril.engine.redis.connection import AsyncConnection, BlockingConnection
    from toril.engine.redis.settings import RedisSettings
    from toril.engine.scripts import Layout
    from toril.queue import Queue

R = TypeVar("R")
T = TypeVar("T")

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


class JobHandle(Generic[R]):
    """One job of one queue. Holds no connection; R is what the job's function returns."""

    __slots__ = ("_created_ms", "id", "queue")

    def __init__(self, queue: Queue, job_id: str) -> None:
        self.queue = queue
        self.id = job_id
        self._created_ms = clock.now_ms()

    async def result(self, timeout: float | None = None) -> R:
        """Wait until the job has finished and return what its function returned, as JSON gives it back.

        Args:
            timeout: seconds; None = as long as it takes.

        Raises:
            JobFailedError: the job failed for good; holds the reason and the remote stacktrace.
            ResultTimeoutError: not finished in time; the job goes on.
            JobNotFoundError: the job is gone and nothing tells how it ended.
            RedisUnavailableError: Redis could not be reached, or lets nobody in. When it is lost later, this waits on.
        """
        waiter = self.queue.waiter()
        try:
            async with asyncio.timeout(timeout):
                return cast(R, await waiter.wait(self.id, self._created_ms))
        except TimeoutError:
            raise errors.ResultTimeoutError(f"job {self.id} of queue {self.queue.name}: {timeout:g} s over") from None

    async def state(self) -> JobState:
        """Where the job is now."""
        return await self.queue.inspector().state(self.id)

    async def job(self) -> JobRecord:
        """Everything stored about the job now. Raises JobNotFoundError when it is gone."""
        found = await self.queue.inspector().job(self.id)
        return _there(found, self.id, self.queue.name)

    async def state_and_job(self) -> tuple[JobState, JobRecord]:
        """Where the job is, and everything stored about it, as of one moment. Raises JobNotFoundError."""
        state, found = await self.queue.inspector().state_and_job(self.id)
        return state, _there(found, self.id, self.queue.name)

    # ---- changing it

    async def promote(self) -> None:
        """Let the job run now, though it is delayed. Raises JobNotFoundError, JobStateError."""
        await self.queue.walk(administration.promote(self.queue.keys, self.id, layout=self.queue.paused_layout))

    async def retry(self, state: Literal["completed", "failed"] = "failed", *, reset_attempts: bool = False) -> None:
        """Let the job run again after its end.

        Args:
            state: how it must have ended.
            reset_attempts: count attempts from the start again; else a job that has used up its attempts gets one more.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is not in that state.
        """
        await self.queue.walk(_retry(self, state, reset_attempts))

    async def remove(self, *, with_children: bool = True) -> None:
        """Remove the job, its children too unless said otherwise; nothing happens when it is gone already.

        Raises:
            JobLockedError: a worker runs it, or a child that it waits for; nothing was removed.
            JobStateError: it is the next run of a job scheduler.
        """
        await self.queue.walk(
            administration.remove(
                self.queue.keys, self.id, with_children=with_children, layout=self.queue.paused_layout
            )
        )

    async def change_delay(self, delay: Duration) -> None:
        """Let the delayed job run so long from now. Raises JobNotFoundError, JobStateError."""
        delay_ms = milliseconds(delay, "delay")
        await self.queue.walk(administration.change_delay(self.queue.keys, self.id, delay_ms))

    async def change_priority(self, priority: int = 0, *, lifo: bool = False) -> None:
        """Change the job's priority; if it waits, it takes its new place at once.

        Args:
            priority: 1 (soonest) to 2097151, or 0 for none, which is before all.
            lifo: before the jobs of the same priority, else behind them.
        """
        await self.queue.walk(
            administration.change_priority(
                self.queue.keys, self.id, checked_priority(priority), lifo=lifo, layout=self.queue.paused_layout
            )
        )

    async def progress(self, value: Any) -> None:
        """Set how far the job is and tell it, from outside. Raises InvalidPayloadError, JobNotFoundError."""
        await self.queue.walk(administration.update_progress(self.queue.keys, self.id, codec.encode(value, "progress")))

    async def update_data(self, data: Any) -> None:
        """Replace the job's data: what its next attempt gets. Raises InvalidPayloadError, JobNotFoundError."""
        await self.queue.walk(administration.update_data(self.queue.keys, self.id, codec.encode(data)))

    async def log(self, row: object, *, keep: int | None = None) -> int:
        """Append a row to the job's log and return how many there are; `keep`: only the newest so many stay."""
        return await self.queue.walk(administration.add_log(self.queue.keys, self.id, log_row(row), keep))

    async def logs(self, *, first: int = 0, last: int = -1, newest_first: bool = False) -> JobLogs:
        """Rows of the job's log, and how many there are in all. Ranks are both included; −1 = to the end."""
        return await self.queue.walk(getters.logs(self.queue.keys, self.id, first, last, newest_first=newest_first))

    async def clear_logs(self, *, keep: int = 0) -> None:
        """Remove the job's log rows but for the newest `keep`."""
        await self.queue.walk(administration.clear_logs(self.queue.keys, self.id, keep))

    async def leave_parent(self) -> bool:
        """Be nobody's child any more; return whether the parent was waiting. Raises JobNotFoundError, JobStateError."""
        return await self.queue.walk(
            administration.leave_parent(self.queue.keys, self.id, layout=self.queue.paused_layout)
        )

    async def remove_unprocessed_children(self) -> None:
        """Remove the job's children that have not ended and that nobody runs, and theirs in turn."""
        await self.queue.walk(
            administration.remove_unprocessed_children(self.queue.keys, self.id, layout=self.queue.paused_layout)
        )

    # ---- flows

    async def children(self) -> Children:
        """What became of the jobs that this one waits for, or waited for."""
        return await self.queue.walk(flows.children(self.queue.keys, self.id))

    async def tree(self, *, depth: int = 10, max_children: int = 20) -> JobTree:
        """The job with its children, theirs, and so on, as they are stored now.

        Args:
            depth: levels in all.
            max_children: of a job's children that have completed, that are pending, and so on, at most so many.

        Raises:
            JobNotFoundError: the job is gone. Children that are gone are left out.
        """
        found = await self.queue.walk(flows.tree(self.queue.keys, self.id, depth=depth, max_children=max_children))
        return _there(found, self.id, self.queue.name)

    @property
    def sync(self) -> SyncJobHandle[R]:
        """The same for code without an event loop."""
        return SyncJobHandle(self)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} of queue {self.queue.name}>"


class SyncJobHandle(Generic[R]):
    """A job from the outside, over a plain blocking connection."""

    __slots__ = ("_handle",)

    def __init__(self, handle: JobHandle[R]) -> None:
        self._handle = handle

    def result(self, timeout: float | None = None) -> R:
        """As `JobHandle.result`. Looks again and again, at first every 10 ms, later every 250 ms."""
        handle = self._handle
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        was_reached = False
        while True:
            try:
                state, job = handle.queue.sync.state_and_job(handle.id)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                was_reached = _was_reached(problem, was_reached)
                pause = RETRY_SECONDS
            else:
                was_reached = True
                job = _there(job, handle.id, handle.queue.name)
                if state in (JobState.COMPLETED, JobState.FAILED):
                    return cast(R, _outcome(state, job))
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise errors.ResultTimeoutError(f"job {handle.id} of queue {handle.queue.name}: {timeout:g} s over")
            time.sleep(left)
            pause = min(pause * 1.5, LOOK_SECONDS)

    def state(self) -> JobState:
        """Where the job is now."""
        state, _ = self._handle.queue.sync.state_and_job(self._handle.id)
        return state

    def job(self) -> JobRecord:
        """Everything stored about the job now. Raises JobNotFoundError when it is gone."""
        _, job = self.state_and_job()
        return job

    def state_and_job(self) -> tuple[JobState, JobRecord]:
        """As `JobHandle.state_and_job`."""
        state, job = self._handle.queue.sync.state_and_job(self._handle.id)
        return state, _there(job, self._handle.id, self._handle.queue.name)

    def children(self) -> Children:
        """As `JobHandle.children`."""
        return self._handle.queue.sync.walk(flows.children(self._handle.queue.keys, self._handle.id))

    def tree(self, *, depth: int = 10, max_children: int = 20) -> JobTree:
        """As `JobHandle.tree`."""
        handle = self._handle
        steps = flows.tree(handle.queue.keys, handle.id, depth=depth, max_children=max_children)
        return _there(handle.queue.sync.walk(steps), handle.id, handle.queue.name)

    def promote(self) -> None:
        """As `JobHandle.promote`."""
        self._walk(administration.promote(self._keys, self._handle.id, layout=self._layout))

    def retry(self, state: Literal["completed", "failed"] = "failed", *, reset_attempts: bool = False) -> None:
        """As `JobHandle.retry`."""
        self._walk(_retry(self._handle, state, reset_attempts))

    def remove(self, *, with_children: bool = True) -> None:
        """As `JobHandle.remove`."""
        self._walk(administration.remove(self._keys, self._handle.id, with_children=with_children, layout=self._layout))

    def change_delay(self, delay: Duration) -> None:
        """As `JobHandle.change_delay`."""
        self._walk(administration.change_delay(self._keys, self._handle.id, milliseconds(delay, "delay")))

    def change_priority(self, priority: int = 0, *, lifo: bool = False) -> None:
        """As `JobHandle.change_priority`."""
        self._walk(
            administration.change_priority(
                self._keys, self._handle.id, checked_priority(priority), lifo=lifo, layout=self._layout
            )
        )

    def progress(self, value: Any) -> None:
        """As `JobHandle.progress`."""
        self._walk(administration.update_progress(self._keys, self._handle.id, codec.encode(value, "progress")))

    def update_data(self, data: Any) -> None:
        """As `JobHandle.update_data`."""
        self._walk(administration.update_data(self._keys, self._handle.id, codec.encode(data)))

    def log(self, row: object, *, keep: int | None = None) -> int:
        """As `JobHandle.log`."""
        return self._walk(administration.add_log(self._keys, self._handle.id, log_row(row), keep))

    def logs(self, *, first: int = 0, last: int = -1, newest_first: bool = False) -> JobLogs:
        """As `JobHandle.logs`."""
        return self._walk(getters.logs(self._keys, self._handle.id, first, last, newest_first=newest_first))

    def clear_logs(self, *, keep: int = 0) -> None:
        """As `JobHandle.clear_logs`."""
        self._walk(administration.clear_logs(self._keys, self._handle.id, keep))

    def leave_parent(self) -> bool:
        """As `JobHandle.leave_parent`."""
        return self._walk(administration.leave_parent(self._keys, self._handle.id, layout=self._layout))

    def remove_unprocessed_children(self) -> None:
        """As `JobHandle.remove_unprocessed_children`."""
        self._walk(administration.remove_unprocessed_children(self._keys, self._handle.id, layout=self._layout))

    @property
    def _layout(self) -> Layout:
        return self._handle.queue.paused_layout

    @property
    def _keys(self) -> QueueKeys:
        return self._handle.queue.keys

    def _walk(self, work: Operation[T]) -> T:
        return self._handle.queue.sync.walk(work)


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
                if job is None:
                    return await self._end_of_gone(job_id, since_ms)
                if state in (JobState.COMPLETED, JobState.FAILED):
                    return _outcome(state, job)
                was_reached = True
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
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop_if_idle)

    def _stop_if_idle(self) -> None:
        if not self._waiting and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    # ---- outcomes

    async def _outcome_of(self, event: QueueEvent, job_id: str) -> Any:
        if event.name == "completed":
            return codec.decode(event.texts.get("returnvalue") or "null", "return value")
        job = await self._inspector.job(job_id)
        trace = job.stacktrace if job is not None else ()
        raise errors.JobFailedError(job_id, event.texts.get("failedReason", ""), trace)

    async def _end_of_gone(self, job_id: str, since_ms: int) -> Any:
        """A job that is not kept leaves only its event."""
        from toril.engine import events

        event = await events.find_end(self._connection, self._keys, job_id, since_ms=since_ms - CLOCK_SKEW_MS)
        if event is None:
            _there(None, job_id, self._keys.queue)
            raise AssertionError("unreachable")
        return await self._outcome_of(event, job_id)


def _was_reached(problem: errors.RedisUnavailableError | errors.UnknownOutcomeError, before: bool) -> bool:
    """Whether Redis was there once: then a caller waits on. Raises the problem when waiting would be of no use."""
    reached = before or isinstance(problem, errors.UnknownOutcomeError)
    if not (reached and problem.temporary):
        raise problem
    return reached


def _retry(handle: JobHandle[Any], state: object, reset_attempts: bool) -> Operation[None]:
    return administration.retry(
        handle.queue.keys,
        handle.id,
        finished_state(state),
        reset_attempts_made=reset_attempts,
        reset_attempts_started=reset_attempts,
        layout=handle.queue.paused_layout,
    )


def _outcome(state: JobState, job: JobRecord) -> Any:
    if state is JobState.COMPLETED:
        return job.return_value
    raise errors.JobFailedError(job.id, job.failed_reason or "", job.stacktrace)


def _there(job: T | None, job_id: str, queue_name: str) -> T:
    if job is None:
        raise errors.JobNotFoundError(f"job {job_id} is not in queue {queue_name}: never added, or not kept")
    return job
