"""A queue from the side of those who add jobs and define tasks."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from toril import bulk, clock, enqueue_options, errors, loop_client
from toril.bulk import BulkItem
from toril.engine import operations
from toril.engine.keys import QueueKeys
from toril.engine.queue_defaults import KnownDefaults
from toril.engine.redis.secret import Secret
from toril.enqueue_options import EnqueueOptions, TaskOptions
from toril.handle import JobHandle, ResultWaiter
from toril.job_context import Job
from toril.jobs.job import JobRecord, JobState, NewJob
from toril.jobs.options import JobOptions
from toril.loop_client import LoopClient
from toril.parameters import refuse_generator
from toril.queue_control import QueueControl, SyncQueueControl
from toril.queue_hooks import HookFunctions, HookMethods
from toril.queue_limits import LimitMethods
from toril.task import AsyncTask, BackoffStrategy, BaseTask, Draft, Task, TaskDecorator

if TYPE_CHECKING:
    from toril.engine.events import QueueEvents
    from toril.engine.getters import Inspector
    from toril.engine.limits import LimitedQueue
    from toril.engine.producer import SyncProducer
    from toril.engine.redis.settings import RedisSettings
    from toril.engine.scripts import Layout
    from toril.schedulers import Schedulers, SyncSchedulers

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound=Callable[[Job], Any])
B = TypeVar("B", bound=BackoffStrategy)

known_queues: weakref.WeakSet[Queue] = weakref.WeakSet()
"""Every `Queue` object of this process; a worker finds its tasks here after importing the processor's module."""


class Queue(QueueControl, LimitMethods, HookMethods):
    """A named line of jobs in Redis, in BullMQ's format. Making one connects to nothing.

    ```python
    emails = Queue("email", attempts=3, backoff=exponential(5))

    @emails.task
    async def send_welcome(to: str, subject: str = "Hi") -> str: ...

    handle = await send_welcome.enqueue("a@b.c")
    ```
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        prefix: str = "bull",
        paused_layout: Layout | None = None,
        **defaults: Unpack[EnqueueOptions],
    ) -> None:
        """Args:
            name: BullMQ's queue name.
            url: `redis://…`; None = from the environment, when first needed (`TORIL_REDIS_URL`, `TORIL_REDIS_HOST` and
                its siblings, `REDIS_URL`, `REDIS_HOST` and its siblings; docs/configuration.md).
            paused_layout: `5` where BullMQ 5 and 6 both pause the queue; None = from the environment, when first needed
                (`TORIL_PAUSED_LAYOUT`), else `6`.
            defaults: options of every job added through this object, unless its task or call says otherwise. They go
                before those of the queue's manifest, which are read from Redis.

        Raises:
            InvalidOptionError: a name or option that BullMQ could not use.
        """
        self.name = name
        self.keys = QueueKeys(name, prefix)
        self._url = Secret(url) if url else None
        self._settings: RedisSettings | None = None
        if paused_layout not in (None, "5", "6"):
            raise errors.InvalidOptionError("paused_layout", "must be 5 or 6, as text")
        self._paused_layout: Layout | None = paused_layout
        self.default_job_options: Mapping[str, Any] = enqueue_options.to_bullmq(defaults, clock.now_ms())
        """What every job added through this object starts from, in BullMQ's words and units."""
        self._default_options = JobOptions.from_bullmq(self.default_job_options)
        self.tasks: dict[str, BaseTask[Any, Any]] = {}
        """By job name."""
        self.default_processor: Callable[[Job], Any] | None = None
        """Runs the jobs whose name no task has."""
        self.backoff_strategy: BackoffStrategy | None = None
        """Decides about jobs whose backoff type is none of BullMQ's own."""
        self.hooks = HookFunctions()
        """Functions to be called around a worker's life and around each job."""
        self.known_defaults = KnownDefaults(self.keys)
        """What the queue's manifest says about its jobs, as far as it is known here."""
        self.sync = SyncQueue(self)
        """The same for code without an event loop."""
        known_queues.add(self)

    # ---- tasks

    @overload  # a coroutine is also an `R`: the first that fits is meant
    def task(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Make a function a task: `@queue.task` or `@queue.task(attempts=5)`. It stays callable as before.

        A job's data is one JSON object with the parameters as keys, so other BullMQ clients can add it too.

        Raises:
            InvalidOptionError: an option, or parameters that have no name; or a second task of the same name.
        """
        if function is None:
            return TaskDecorator(lambda decorated: self._make_task(decorated, options))
        return self._make_task(function, options)

    def default(self, function: D, /) -> D:
        """Make a function run the jobs whose name no task has: `@queue.default`. It gets the `Job`."""
        refuse_generator(function)
        if self.default_processor is not None:
            raise errors.InvalidOptionError("default", f"queue {self.name} has a default already")
        self.default_processor = function
        return function

    def backoff(self, function: B, /) -> B:
        """Make a function say how long jobs with a backoff type of your own wait: `Backoff("custom", 0)`.

        ```python
        @emails.backoff
        def pause(attempts_made: int, error: BaseException, job: JobRecord) -> float | None:
            return None if "quota" in str(error) else attempts_made * 1.5        # seconds; None: no other attempt
        ```
        """
        refuse_generator(function)
        if asyncio.iscoroutinefunction(function):
            raise errors.InvalidOptionError("backoff", "must be a plain function: it is called between jobs")
        if self.backoff_strategy is not None:
            raise errors.InvalidOptionError("backoff", f"queue {self.name} has a backoff strategy already")
        self.backoff_strategy = function
        return function

    def _make_task(self, function: Callable[..., Any], options: TaskOptions) -> BaseTask[Any, Any]:
        task: BaseTask[Any, Any] = Task(self, function, options)
        if task.is_async:
            task = AsyncTask(self, function, options)
        if task.name in self.tasks:
            raise errors.InvalidOptionError("name", f"queue {self.name} has a task {task.name!r} already")
        self.tasks[task.name] = task
        return task

    # ---- adding

    async def add(self, name: str, data: Any, opts: Mapping[str, Any] | None = None) -> JobHandle[Any]:
        """Add a job by name, as BullMQ's `queue.add` does.

        Args:
            data: any JSON value.
            opts: BullMQ's job options, in its units (milliseconds).

        Raises:
            InvalidOptionError, InvalidPayloadError: refused; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; it may have been added. Use `jobId` to be sure.
        """
        (job_id,) = await self.add_new([self.new_job(name, data, opts)])
        return JobHandle(self, job_id)

    def draft(self, name: str, data: Any, opts: Mapping[str, Any] | None = None) -> Draft[Any]:
        """Prepare a job without adding it, as `add` would: for `add_bulk`, `flow` and `Job.add_child`."""
        return Draft(self, self.new_job(name, data, opts))

    @overload
    async def add_bulk(self, items: Iterable[Draft[R]], /) -> list[JobHandle[R]]: ...
    @overload
    async def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]: ...
    async def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]:
        """Add many jobs of this queue, many in one call each: `add_bulk([send.draft(to) for to in addresses])`.

        Jobs without a task are written `(name, data)` or `(name, data, opts)`, with BullMQ's options in its units, or
        as BullMQ's `addBulk` takes them: `{"name": …, "data": …, "opts": …}`.

        The items of a list have all been checked before the first is added. Others are added as they come, while Redis
        works on those before, so that an iterator may have millions; when it fails in the middle, those stay.

        Raises as `add` does; `field` begins with the place of the bad item, `[3].opts.priority`. When it fails in the
        middle, the calls before are done.
        """
        return [JobHandle(self, job_id) for job_id in await self.add_new(bulk.new_jobs(self, items))]

    async def add_new(self, jobs: Iterable[NewJob]) -> list[str]:
        """Add prepared jobs and return their ids, in order."""
        return await self._client().producer.add(jobs)

    def new_job(self, name: str, data: Any, opts: Mapping[str, Any] | None) -> NewJob:
        """A checked job with this object's own default options. Raises as `add`."""
        options = self._default_options
        if opts:
            options = JobOptions.from_bullmq({**self.default_job_options, **opts})
        return NewJob.create(name, data, options)

    # ---- looking and steering

    def handle(self, job_id: str) -> JobHandle[Any]:
        """A handle of a job whose id is known. Asks nothing yet."""
        return JobHandle(self, job_id)

    async def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return await self.inspector().counts()

    async def pause(self) -> bool:
        """Let no worker take jobs; adding goes on. Returns whether the queue was running."""
        return await self._client().producer.pause()

    async def resume(self) -> bool:
        """Undo `pause`. Returns whether the queue was paused."""
        return await self._client().producer.resume()

    def events(self, after: str = "$") -> QueueEvents:
        """What happens in this queue, from all producers and workers, as it comes.

        ```python
        async with queue.events() as events:
            async for event in events:
                print(event.name, event.job_id, event.fields)
        ```

        Args:
            after: id of the event to go on after; `$` = only new ones, `0` = all that are still there (some 10 000).
        """
        return self._client().events(after)

    async def walk(self, work: operations.Operation[R]) -> R:
        connection = self._client().connection
        try:
            return await operations.execute(connection, work)
        except errors.WrongKeyTypeError as problem:
            from toril.engine.redis import key_types

            raise await key_types.name_wrong_key(connection, self.keys, problem) from None

    def inspector(self) -> Inspector:
        """The reader of this queue, on this event loop's connection."""
        return self._client().inspector

    def limits(self) -> LimitedQueue:
        """What reads and writes this queue's limits, on this event loop's connection."""
        return self._client().limits

    def waiter(self) -> ResultWaiter:
        """What waits for results on this event loop."""
        return self._client().waiter

    # ---- connections

    @property
    def settings(self) -> RedisSettings:
        """Where Redis is. Raises SettingsError when URL or environment are wrong."""
        if self._settings is None:
            from toril.engine.redis.settings import RedisSettings

            url = self._url.reveal() if self._url else None
            self._settings = RedisSettings.from_environment(os.environ, url=url)
        return self._settings

    @functools.cached_property
    def schedulers(self) -> Schedulers:
        """Jobs on a calendar, or at an interval."""
        from toril.schedulers import Schedulers

        return Schedulers(self)

    @property
    def paused_layout(self) -> Layout:
        """Where jobs wait while the queue is paused. Raises SettingsError when the environment is wrong."""
        if self._paused_layout is None:
            from toril.engine.redis.settings import paused_layout_from

            self._paused_layout = paused_layout_from(os.environ)
        return self._paused_layout

    def _client(self) -> LoopClient:
        """Each event loop has its own connection, opened when first used and closed with the loop."""
        return loop_client.of(self)

    async def close(self) -> None:
        """Close this event loop's connection and the synchronous one. The queue can be used again: it connects anew."""
        await loop_client.close(self)
        self.sync.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"


class SyncQueue(SyncQueueControl):
    """A queue for code without an event loop, over one plain blocking connection that threads share in turn."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.keys = queue.keys
        self._producer: SyncProducer | None = None
        self._opening = threading.Lock()

    @functools.cached_property
    def schedulers(self) -> SyncSchedulers:
        """Jobs on a calendar, or at an interval."""
        from toril.schedulers import SyncSchedulers

        return SyncSchedulers(self._queue)

    @property
    def paused_layout(self) -> Layout:
        return self._queue.paused_layout

    def add(self, name: str, data: Any, opts: Mapping[str, Any] | None = None) -> JobHandle[Any]:
        """As `Queue.add`."""
        (job_id,) = self.add_new([self._queue.new_job(name, data, opts)])
        return JobHandle(self._queue, job_id)

    @overload
    def add_bulk(self, items: Iterable[Draft[R]], /) -> list[JobHandle[R]]: ...
    @overload
    def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]: ...
    def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]:
        """As `Queue.add_bulk`."""
        return [JobHandle(self._queue, job_id) for job_id in self.add_new(bulk.new_jobs(self._queue, items))]

    def add_new(self, jobs: Iterable[NewJob]) -> list[str]:
        """As `Queue.add_new`."""
        return self._open().add(jobs)

    def walk(self, work: operations.Operation[R]) -> R:
        connection = self._open().connection
        try:
            return operations.execute_sync(connection, work)
        except errors.WrongKeyTypeError as problem:
            from toril.engine.redis import key_types

            raise key_types.name_wrong_key_sync(connection, self.keys, problem) from None

    def state_and_job(self, job_id: str) -> tuple[JobState, JobRecord | None]:
        """Where a job is and what is stored about it, as of one moment."""
        from toril.engine import scripts

        return self._open().connection.run(scripts.read_job(self._queue.keys, job_id))

    def close(self) -> None:
        """Close the connection; the next call opens it anew."""
        with self._opening:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.connection.close()

    def _open(self) -> SyncProducer:
        with self._opening:
            if self._producer is None:
                from toril.engine.producer import SyncProducer
                from toril.engine.redis.sync_connection import SyncConnection

                self._producer = SyncProducer(
                    SyncConnection(self._queue.settings),
                    self._queue.keys,
                    layout=self._queue.paused_layout,
                    defaults=self._queue.known_defaults,
                )
            return self._producer
