"""A function whose calls can be jobs: what `@queue.task` makes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload

from toril import clock, errors
from toril.client import options as enqueue_options
from toril.client.draft import Draft
from toril.client.handle import JobHandle
from toril.client.options import EnqueueOptions, TaskOptions
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.tasks.parameters import Parameters, refuse_generator

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.sync.handle import SyncJobHandle

P = ParamSpec("P")
R = TypeVar("R")


class BaseTask(Generic[P, R]):
    """What functions with and without `async` have in common."""

    def __init__(self, client: QueueClient, function: Callable[..., Any], options: TaskOptions) -> None:
        self.client = client
        self.function = function
        refuse_generator(function)
        self.parameters = Parameters(function)
        rest: dict[str, Any] = dict(options)
        self.name: str = rest.pop("name", None) or function.__name__.replace("_", "-")
        """Name of its jobs."""
        self.is_inline: bool = rest.pop("inline", False)
        self.is_strict: bool = rest.pop("strict", False)
        self.is_async = inspect.iscoroutinefunction(function)
        if self.is_inline and self.is_async:
            raise errors.InvalidOptionError("inline", "is for functions without `async`; those with it always are")
        self._options: Mapping[str, Any] = rest
        self._ready_options: JobOptions | None = None
        self._job_options()
        functools.update_wrapper(cast(Any, self), function)

    def options(self, **options: Unpack[EnqueueOptions]) -> Self:
        """The same task with other options for the jobs added through it.

        `await send.options(delay=60, job_id="w-42").enqueue("a@b.c")`

        Raises:
            InvalidOptionError: an unknown option or a value out of range.
        """
        changed = object.__new__(type(self))
        changed.__dict__.update(self.__dict__)
        changed._options = {**self._options, **options}
        changed._ready_options = None
        changed._job_options()
        return changed

    @property
    def sync(self) -> SyncTask[P, R]:
        """The same for code without an event loop."""
        return SyncTask(self)

    def draft(self, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        """Prepare a job without adding it, for `Queue.add_bulk`. Raises as `enqueue` does for wrong arguments."""
        return Draft(self.client, self._new_job(args, kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job that will call the function with these arguments, in some worker.

        Raises:
            InvalidPayloadError: the arguments do not fit the parameters or are not JSON; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; it may have been added. Use `job_id` to be sure.
        """
        (job_id,) = await self.client.add([self._new_job(args, kwargs)])
        return JobHandle(self.client, job_id)

    def _new_job(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        return NewJob.create(self.name, self.parameters.bind(args, kwargs), self._job_options())

    def _job_options(self) -> JobOptions:
        """Options of the next job; the same for all unless they hold a moment (`run_at`)."""
        ready = self._ready_options
        if ready is None:
            ready = enqueue_options.checked(self.client.default_job_options, self._options, clock.now_ms())
            if "run_at" not in self._options:
                self._ready_options = ready
        return ready

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of queue {self.client.name}>"


class Task(BaseTask[P, R]):
    """A function without `async`. Calling it calls the function; `enqueue` makes a job of the call."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.function(*args, **kwargs)
        return result


class AsyncTask(BaseTask[P, R]):
    """A function with `async`. Calling it calls the function; `enqueue` makes a job of the call."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        result: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return result


class SyncTask(Generic[P, R]):
    """A task for code without an event loop: `task.sync`. Written by hand, since `Task` has one method with `async`."""

    __slots__ = ("_task",)

    def __init__(self, task: BaseTask[P, R]) -> None:
        self._task = task

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """Add a job that will call the function with these arguments, in some worker.

        Raises:
            InvalidPayloadError: the arguments do not fit the parameters or are not JSON; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; it may have been added. Use `job_id` to be sure.
        """
        from toril.client.sync.handle import SyncJobHandle

        task = self._task
        (job_id,) = task.client.add_sync([task._new_job(args, kwargs)])
        return SyncJobHandle(task.client, job_id)


class TaskDecorator:
    """What `@queue.task(…)` with options answers: applied to a function it makes the task."""

    def __init__(self, make: Callable[[Callable[..., Any]], Any]) -> None:
        self._make = make

    @overload  # a coroutine is also an `R`: the first that fits is meant
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._make(function)
