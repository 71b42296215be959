"""A function whose calls can be jobs: what `@queue.task` makes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload

from toril import clock, enqueue_options, errors
from toril.enqueue_options import Duration, EnqueueOptions, TaskOptions
from toril.handle import JobHandle
from toril.jobs.job import JobRecord, NewJob
from toril.jobs.options import JobOptions
from toril.parameters import Parameters, refuse_generator

if TYPE_CHECKING:
    from toril.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


BackoffStrategy = Callable[[int, BaseException, JobRecord], Duration | None]
"""How long a job waits: attempts made so far (1 = the first has failed), the error, the job. None or −1 = give up."""


@dataclass(slots=True)
class Draft(Generic[R_co]):
    """A job that is checked and ready, but not added yet: see `Queue.add_bulk`."""

    queue: Queue
    job: NewJob


class BaseTask(Generic[P, R]):
    """What functions with and without `async` have in common."""

    def __init__(self, queue: Queue, function: Callable[..., Any], options: TaskOptions) -> None:
        self.queue = queue
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
        return Draft(self.queue, self._new_job(args, kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job that will call the function with these arguments, in some worker.

        Raises:
            InvalidPayloadError: the arguments do not fit the parameters or are not JSON; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; it may have been added. Use `job_id` to be sure.
        """
        (job_id,) = await self.queue.add_new([self._new_job(args, kwargs)])
        return JobHandle(self.queue, job_id)

    def _new_job(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        return NewJob.create(self.name, self.parameters.bind(args, kwargs), self._job_options())

    def _job_options(self) -> JobOptions:
        """Options of the next job; the same for all unless they hold a moment (`run_at`)."""
        ready = self._ready_options
        if ready is None:
            ready = enqueue_options.checked(self.queue.default_job_options, self._options, clock.now_ms())
            if "run_at" not in self._options:
                self._ready_options = ready
        return ready

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of queue {self.queue.name}>"


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
    """Adds a task's jobs over a plain blocking connection."""

    __slots__ = ("_task",)

    def __init__(self, task: BaseTask[P, R]) -> None:
        self._task = task

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As the task's own `enqueue`, without an event loop. Safe in threads."""
        task = self._task
        (job_id,) = task.queue.sync.add_new([task._new_job(args, kwargs)])
        return JobHandle(task.queue, job_id)


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
