"""The job that is being run, as its processor sees it: `Job.current()`."""

from __future__ import annotations

import contextvars
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from toril import clock, errors
from toril.client import options as enqueue_options
from toril.client.options import Duration
from toril.jobs import codec, options
from toril.jobs.children import Children
from toril.jobs.job import JobRecord
from toril.jobs.parents import ParentLink

if TYPE_CHECKING:
    import asyncio

    from toril.client.draft import Draft
    from toril.client.handle import JobHandle
    from toril.client.sync.handle import SyncJobHandle

T = TypeVar("T")
R = TypeVar("R")


class JobChannel(Protocol):
    """Where a running job's words go: the worker's side of its queue."""

    async def progress(self, job_id: str, progress_json: str, /) -> None: ...
    async def log(self, job_id: str, row: str, keep: int | None, /) -> int: ...
    async def update_data(self, job_id: str, data_json: str, /) -> None: ...
    async def children(self, job_id: str, /) -> Children: ...
    async def remove_unprocessed_children(self, job_id: str, /) -> None: ...
    def as_parent(self, job_id: str, /) -> ParentLink: ...


class JobRun:
    """One attempt at one job, as the worker keeps it."""

    is_cancelled = False

    def __init__(self, record: JobRecord, channel: JobChannel, loop: asyncio.AbstractEventLoop) -> None:
        self.record = record
        self.channel = channel
        self.loop = loop


current_run: contextvars.ContextVar[JobRun | None] = contextvars.ContextVar("toril_current_run", default=None)
"""Set by the worker around each processor call."""


class Job:
    """The running job. Get it with `Job.current()`, inside a processor or as the default value of its parameter."""

    __slots__ = ("_run",)
    _run: JobRun

    def __init__(self, run: JobRun) -> None:
        self._run = run

    @staticmethod
    def current() -> Job:
        """The job that is being run here.

        Outside a processor the answer is a stand-in that finds the running job when it is used. That makes it a
        default value: `async def send(to: str, *, job: Job = Job.current())`. Such a parameter is not part of the
        job's data; the worker fills it.
        """
        run = current_run.get()
        return CURRENT if run is None else Job(run)

    @property
    def id(self) -> str:
        return self._run.record.id

    @property
    def name(self) -> str:
        return self._run.record.name

    @property
    def data(self) -> Any:
        """The job's data as it was added, decoded from JSON."""
        return self._run.record.data

    @property
    def opts(self) -> Mapping[str, Any]:
        """The job's options under BullMQ's names, in its units."""
        return self._run.record.opts

    @property
    def attempt(self) -> int:
        """Number of this attempt: 1 for the first. Attempts that were given back (a drained worker) do not count."""
        return self._run.record.attempts_made + 1

    @property
    def attempts(self) -> int | float:
        """How often the job may be tried in all. No `int` only beyond 2**53, as `Number.MAX_VALUE` is."""
        return max(1, options.attempts_in(self.opts))

    @property
    def is_cancelled(self) -> bool:
        """True when this run's result will not be recorded: its lock was lost, or the worker must stop now.

        An `async` function gets a `CancelledError` instead. A function in a thread cannot be stopped: long ones should
        look here now and then, and return.
        """
        return self._run.is_cancelled

    @property
    def record(self) -> JobRecord:
        """Everything else that is stored about the job."""
        return self._run.record

    @property
    def sync(self) -> SyncJob:
        """The same for a function without `async`, which runs in a thread."""
        return SyncJob(self._run)

    async def progress(self, value: Any) -> None:
        """Set the job's `progress`: a number, text, or any JSON value. Readers of the queue's events get it at once.

        Raises:
            InvalidPayloadError: not JSON.
            JobNotFoundError: the job has been removed meanwhile.
        """
        run = self._run
        await run.channel.progress(run.record.id, codec.encode(value, "progress"))

    async def log(self, row: object) -> int:
        """Append a row to the job's log and return how many rows there are. Raises JobNotFoundError when it is gone."""
        run = self._run
        return await run.channel.log(run.record.id, codec.log_row(row), options.count_in(self.opts.get("keepLogs")))

    async def update_data(self, data: Any) -> None:
        """Replace the job's data: what a next attempt starts with. `self.data` stays as it is.

        Raises:
            InvalidPayloadError: not JSON.
            JobNotFoundError: the job has been removed meanwhile.
        """
        run = self._run
        await run.channel.update_data(run.record.id, codec.encode(data))

    # ---- children

    async def add_child(self, draft: Draft[R]) -> JobHandle[R]:
        """Add a job that this one waits for: it cannot complete before, see `move_to_waiting_children`.

        It belongs to this job's trace, unless it names another or omits it (`telemetry`).

        Raises:
            InvalidOptionError: the draft has a deduplication.
            ParentConflictError: there is such a job, and it belongs to another one.
            JobNotFoundError: this job has been removed meanwhile.
        """
        from toril.client.handle import JobHandle

        run = self._run
        child = draft.job.under(run.channel.as_parent(run.record.id)).in_trace(run.record.trace_metadata)
        (job_id,) = await draft.client.add([child])
        return JobHandle(draft.client, job_id)

    async def children(self) -> Children:
        """What became of the jobs that this one waits for, or waited for."""
        return await self._run.channel.children(self.id)

    async def children_values(self) -> Mapping[str, Any]:
        """What the completed children returned, by their keys in Redis, such as `bull:resize:7`."""
        return (await self.children()).values

    async def remove_unprocessed_children(self) -> None:
        """Remove the children that have not ended and that no worker runs: this job need not wait for them any more."""
        await self._run.channel.remove_unprocessed_children(self.id)

    # ---- ending this run without ending the job: it starts anew, and this attempt does not count

    async def move_to_waiting_children(self) -> None:
        """Let the job wait for its children, if any has not ended; else return at once.

        Raises:
            WaitForChildrenError: ends this run; let it through. The job runs anew when all children have ended.
            UnrecoverableError: a child has failed that fails its parent.
        """
        children = await self.children()
        if children.failed:
            raise errors.UnrecoverableError(f"child {children.failed[0]} failed")
        if children.pending:
            raise errors.WaitForChildrenError(f"{len(children.pending)} children have not ended")

    def move_to_delayed(self, until: Duration | datetime) -> NoReturn:
        """Let the job run anew later.

        Args:
            until: a moment (with a time zone), or a length of time from now.

        Raises:
            DelayJobError: always; let it through.
            InvalidOptionError: `until` makes no sense.
        """
        name = "run_at" if isinstance(until, datetime) else "delay"
        delay_ms = enqueue_options.to_bullmq({name: until}, clock.now_ms())["delay"]
        raise errors.DelayJobError(delay_ms / 1000)

    def move_to_wait(self) -> NoReturn:
        """Let the job run anew as the next one. Raises RequeueJobError, always; let it through."""
        raise errors.RequeueJobError("the job is to run again")

    def rate_limit(self, duration: Duration | None = None) -> NoReturn:
        """Let this worker, and all that have a rate limit, take no jobs for so long; then the job runs anew.

        Args:
            duration: None = what is left of a time that `Queue.rate_limit` began.

        Raises:
            RateLimitedError: always; let it through.
        """
        seconds = None if duration is None else enqueue_options.milliseconds(duration, "duration") / 1000
        raise errors.RateLimitedError(seconds)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name}, attempt {self.attempt}>"


class SyncJob:
    """What a function in a thread says about its job. Each call waits until Redis has it."""

    __slots__ = ("_job", "_loop")

    def __init__(self, run: JobRun) -> None:
        self._job = Job(run)
        self._loop = run.loop

    def progress(self, value: Any) -> None:
        """As `Job.progress`."""
        self._wait_for(self._job.progress(value))

    def log(self, row: object) -> int:
        """As `Job.log`."""
        return self._wait_for(self._job.log(row))

    def update_data(self, data: Any) -> None:
        """As `Job.update_data`."""
        self._wait_for(self._job.update_data(data))

    def add_child(self, draft: Draft[R]) -> SyncJobHandle[R]:
        """As `Job.add_child`; the handle is for code without an event loop."""
        return self._wait_for(self._job.add_child(draft)).sync

    def children(self) -> Children:
        """As `Job.children`."""
        return self._wait_for(self._job.children())

    def children_values(self) -> Mapping[str, Any]:
        """As `Job.children_values`."""
        return self._wait_for(self._job.children_values())

    def remove_unprocessed_children(self) -> None:
        """As `Job.remove_unprocessed_children`."""
        self._wait_for(self._job.remove_unprocessed_children())

    def move_to_waiting_children(self) -> None:
        """As `Job.move_to_waiting_children`."""
        self._wait_for(self._job.move_to_waiting_children())

    def _wait_for(self, words: Coroutine[Any, Any, T]) -> T:
        import asyncio

        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            words.close()
            raise errors.NoCurrentJobError(
                "`job.sync` waits for the event loop it would block here: await `job.…`, or leave out `inline=True`"
            )
        return asyncio.run_coroutine_threadsafe(words, self._loop).result()


class _CurrentJob(Job):
    """Stands for whichever job is running where it is used."""

    __slots__ = ()

    def __init__(self) -> None:
        """Has no run of its own."""

    @property
    def _run(self) -> JobRun:  # type: ignore[override]  # looked up anew each time, never set
        run = current_run.get()
        if run is None:
            raise errors.NoCurrentJobError("no job is running here; `Job.current()` works inside a processor")
        return run

    def __repr__(self) -> str:
        return "Job.current()"


CURRENT: Job = _CurrentJob()
