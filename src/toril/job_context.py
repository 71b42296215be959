"""The job that is being run, as its processor sees it: `Job.current()`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from toril import errors
from toril.jobs import codec
from toril.jobs.job import JobRecord

T = TypeVar("T")

MAX_LOG_ROW = 65_536
"""Longer log rows are cut, characters."""


class JobChannel(Protocol):
    """Where a running job's words go: the worker's side of its queue."""

    async def progress(self, job_id: str, progress_json: str, /) -> None: ...
    async def log(self, job_id: str, row: str, keep: int | None, /) -> int: ...
    async def update_data(self, job_id: str, data_json: str, /) -> None: ...


class JobRun:
    """One attempt at one job, as the worker keeps it. Small, because there is one for every job."""

    __slots__ = ("channel", "is_cancelled", "loop", "record")

    def __init__(self, record: JobRecord, channel: JobChannel, loop: asyncio.AbstractEventLoop) -> None:
        self.record = record
        self.channel = channel
        self.loop = loop
        self.is_cancelled = False


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
    def attempts(self) -> int:
        """How often the job may be tried in all."""
        attempts = self.opts.get("attempts")
        return max(1, attempts) if isinstance(attempts, int) else 1

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
        """Tell how far the job is: a number, text, or any JSON value; everyone who listens sees it at once.

        Raises:
            InvalidPayloadError: not JSON.
            JobNotFoundError: the job has been removed meanwhile.
        """
        run = self._run
        await run.channel.progress(run.record.id, codec.encode(value, "progress"))

    async def log(self, row: object) -> int:
        """Append a row to the job's log and return how many rows there are. Raises JobNotFoundError when it is gone."""
        run = self._run
        kept = self.opts.get("keepLogs")
        text = str(row).encode(errors="replace").decode()[:MAX_LOG_ROW]
        return await run.channel.log(run.record.id, text, kept if isinstance(kept, int) else None)

    async def update_data(self, data: Any) -> None:
        """Replace the job's data: what a next attempt starts with. `self.data` stays as it is.

        Raises:
            InvalidPayloadError: not JSON.
            JobNotFoundError: the job has been removed meanwhile.
        """
        run = self._run
        await run.channel.update_data(run.record.id, codec.encode(data))

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

    def _wait_for(self, words: Coroutine[Any, Any, T]) -> T:
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
