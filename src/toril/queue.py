"""A queue from the side of those who add jobs and define tasks."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from toril import clock, errors
from toril.client import options as enqueue_options
from toril.client.adding import AddMethods
from toril.client.connection import QueueClient
from toril.client.control import ControlMethods
from toril.client.draft import Draft
from toril.client.limits import LimitMethods
from toril.client.options import BackoffStrategy, EnqueueOptions, TaskOptions
from toril.tasks.context import Job
from toril.tasks.hooks import HookFunctions, HookMethods
from toril.tasks.parameters import refuse_generator
from toril.tasks.task import AsyncTask, BaseTask, Task, TaskDecorator

if TYPE_CHECKING:
    from toril.client.schedulers import Schedulers
    from toril.client.sync.queue import SyncQueue
    from toril.engine.events import QueueEvents
    from toril.engine.keys import QueueKeys
    from toril.engine.redis.settings import RedisSettings
    from toril.engine.scripts import Layout

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound=Callable[[Job], Any])
B = TypeVar("B", bound=BackoffStrategy)

known_queues: weakref.WeakSet[Queue] = weakref.WeakSet()
"""Every `Queue` object of this process; a worker finds its tasks here after importing the processor's module."""


class Queue(AddMethods, ControlMethods, LimitMethods, HookMethods):
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
        self.client = QueueClient(
            name,
            url=url,
            prefix=prefix,
            paused_layout=paused_layout,
            default_job_options=enqueue_options.to_bullmq(defaults, clock.now_ms()),
        )
        """Reaches Redis; handles, drafts and tasks of this queue share it."""
        self.tasks: dict[str, BaseTask[Any, Any]] = {}
        """By job name."""
        self.default_processor: Callable[[Job], Any] | None = None
        """Runs the jobs whose name no task has."""
        self.backoff_strategy: BackoffStrategy | None = None
        """Decides about jobs whose backoff type is none of BullMQ's own."""
        self.hooks = HookFunctions()
        """Functions to be called around a worker's life and around each job."""
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
        if inspect.iscoroutinefunction(function):
            raise errors.InvalidOptionError("backoff", "must be a plain function: it is called between jobs")
        if self.backoff_strategy is not None:
            raise errors.InvalidOptionError("backoff", f"queue {self.name} has a backoff strategy already")
        self.backoff_strategy = function
        return function

    def _make_task(self, function: Callable[..., Any], options: TaskOptions) -> BaseTask[Any, Any]:
        task: BaseTask[Any, Any] = Task(self.client, function, options)
        if task.is_async:
            task = AsyncTask(self.client, function, options)
        if task.name in self.tasks:
            raise errors.InvalidOptionError("name", f"queue {self.name} has a task {task.name!r} already")
        self.tasks[task.name] = task
        return task

    # ---- jobs and events

    def draft(self, name: str, data: Any, opts: Mapping[str, Any] | None = None) -> Draft[Any]:
        """Prepare a job without adding it, as `add` would: for `add_bulk`, `flow` and `Job.add_child`."""
        return Draft(self.client, self.client.new_job(name, data, opts))

    def events(self, after: str = "$") -> QueueEvents:
        """The events of this queue, from all producers and workers, in order. Only for event loops.

        ```python
        async with queue.events() as events:
            async for event in events:
                print(event.name, event.job_id, event.fields)
        ```

        Args:
            after: id of the event to go on after; `$` = only new ones, `0` = all that are still there (some 10 000).
        """
        return self.client.events(after)

    @functools.cached_property
    def schedulers(self) -> Schedulers:
        """Jobs on a calendar, or at an interval."""
        from toril.client.schedulers import Schedulers

        return Schedulers(self.client)

    @functools.cached_property
    def sync(self) -> SyncQueue:
        """The same for code without an event loop: its methods block, and return handles whose methods block."""
        from toril.client.sync.queue import SyncQueue

        return SyncQueue(self.client)

    # ---- connections

    @property
    def keys(self) -> QueueKeys:
        """Names of the queue's Redis keys."""
        return self.client.keys

    @property
    def settings(self) -> RedisSettings:
        """Where Redis is. Raises SettingsError when URL or environment are wrong."""
        return self.client.settings

    @property
    def paused_layout(self) -> Layout:
        """Where jobs wait while the queue is paused. Raises SettingsError when the environment is wrong."""
        return self.client.paused_layout

    async def close(self) -> None:
        """Close this event loop's connection and the synchronous one. The queue can be used again: it connects anew."""
        await self.client.close()
        self.client.close_sync()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"
