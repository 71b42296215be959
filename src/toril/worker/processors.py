"""Finds the user's code and says how each job name is run."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from toril import errors
from toril.client.options import BackoffStrategy
from toril.queue import Queue, known_queues
from toril.tasks.context import Job, JobRun
from toril.tasks.hooks import HookFunctions
from toril.tasks.parameters import Parameters

logger = logging.getLogger("toril.worker")


class How(Enum):
    """How a processor's function is run."""

    ASYNC = "async"
    """On the event loop, as a coroutine."""
    INLINE = "inline"
    """On the event loop, as a plain call: nothing else runs meanwhile."""
    THREAD = "thread"
    """In a thread of its own."""


class Processor:
    """One function, and how to call it with a job."""

    __slots__ = ("_parameters", "function", "how", "is_strict")

    def __init__(
        self, function: Callable[..., Any], how: How, parameters: Parameters | None, *, is_strict: bool = False
    ) -> None:
        """Args:
        parameters: None = the function gets the `Job` itself.
        is_strict: whether keys of the data that the function has no parameter for fail the job.
        """
        self.function = function
        self.how = how
        self.is_strict = is_strict
        self._parameters = parameters

    def call(self, run: JobRun) -> Any:
        """Call the function with the job's data; returns a coroutine when it is `async`.

        Raises:
            UnrecoverableError: the data does not fit the function's parameters; names the field.
        """
        parameters = self._parameters
        if parameters is None:
            return self.function(Job(run))
        try:
            data = run.record.data
            unknown = parameters.check(data, refuses_unknown=self.is_strict)
        except errors.InvalidPayloadError as problem:
            raise errors.UnrecoverableError(str(problem)) from None
        if unknown:
            logger.debug("job %s %s: left out of its data: %s", run.record.id, run.record.name, ", ".join(unknown))
            data = {name: value for name, value in data.items() if name not in unknown}
        if parameters.context_names:
            data = {**data, **dict.fromkeys(parameters.context_names, Job(run))}
        return self.function(**data)


class Processors:
    """The processors of one queue by job name."""

    def __init__(
        self,
        queue_name: str,
        by_name: Mapping[str, Processor],
        default: Processor | None,
        *,
        backoff_strategy: BackoffStrategy | None = None,
        hooks: HookFunctions | None = None,
    ) -> None:
        self.backoff_strategy = backoff_strategy
        self.hooks = hooks or HookFunctions()
        self._queue_name = queue_name
        self._by_name = dict(by_name)
        self._default = default

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def find(self, job_name: str) -> Processor:
        """The processor of a job name. Raises UnrecoverableError when nothing runs it; says the name."""
        processor = self._by_name.get(job_name, self._default)
        if processor is None:
            raise errors.UnrecoverableError(
                f"queue {self._queue_name!r} has no task {job_name!r} and no default; its tasks are "
                f"{', '.join(self.names) or 'none'}"
            )
        return processor

    @classmethod
    def of_queues(cls, queue_name: str, queues: Iterable[Queue]) -> Processors:
        """Collect the tasks of all `Queue` objects of one name.

        Raises:
            ProcessorLoadError: there are no tasks, or two of the same name.
        """
        by_name: dict[str, Processor] = {}
        defaults: list[Callable[..., Any]] = []
        strategies: list[BackoffStrategy] = []
        queues = list(queues)
        hooks = HookFunctions()
        for queue in queues:
            hooks.extend(queue.hooks)
        for queue in queues:
            for name, task in queue.tasks.items():
                if name in by_name:
                    raise errors.ProcessorLoadError(f"two tasks of queue {queue_name!r} are named {name!r}")
                how = how_of(task.function, is_inline=task.is_inline)
                processor = Processor(task.function, how, task.parameters, is_strict=task.is_strict)
                by_name[name] = _with_hooks(processor, hooks)
            if queue.default_processor is not None:
                defaults.append(queue.default_processor)
            if queue.backoff_strategy is not None:
                strategies.append(queue.backoff_strategy)
        if len(defaults) > 1:
            raise errors.ProcessorLoadError(f"queue {queue_name!r} has two default processors")
        if len(strategies) > 1:
            raise errors.ProcessorLoadError(f"queue {queue_name!r} has two backoff strategies")
        if not by_name and not defaults:
            raise errors.ProcessorLoadError(
                f"queue {queue_name!r} has no tasks: write `@queue.task` above a function, or `@queue.default`"
            )
        default = _with_hooks(Processor(defaults[0], how_of(defaults[0]), None), hooks) if defaults else None
        strategy = strategies[0] if strategies else None
        return cls(queue_name, by_name, default, backoff_strategy=strategy, hooks=hooks)


def _with_hooks(processor: Processor, hooks: HookFunctions) -> Processor:
    if not hooks.before and not hooks.after:
        return processor
    from toril.worker.around import AroundProcessor

    return AroundProcessor(processor, hooks.before, hooks.after)


def load(processor: Mapping[str, Any], queue_name: str) -> Processors:
    """Load what `TORIL_PROCESSOR` describes, for one queue.

    Raises:
        SettingsError: the description is wrong.
        ProcessorLoadError: the code cannot be imported, or serves no such queue; says why.
    """
    if set(processor) != {"python"}:
        kinds = ", ".join(sorted(processor)) or "nothing"
        raise errors.SettingsError(f'TORIL_PROCESSOR holds {kinds}; this version knows {{"python": {{"module": …}}}}')
    python = processor["python"]
    module = python.get("module") if isinstance(python, dict) else None
    if not isinstance(module, str) or not module or set(python) != {"module"}:
        raise errors.SettingsError('TORIL_PROCESSOR: python must be {"module": "app.jobs"}')
    return load_python(module, queue_name)


def load_python(module: str, queue_name: str) -> Processors:
    """Import a module and collect the tasks of its `Queue` objects of one name. Raises as `load`."""
    import_module(module)
    queues = [queue for queue in known_queues if queue.name == queue_name]
    if not queues:
        names = ", ".join(sorted({repr(queue.name) for queue in known_queues})) or "none"
        raise errors.ProcessorLoadError(f"module {module!r} has no queue {queue_name!r}; it has {names}")
    return Processors.of_queues(queue_name, queues)


def only_queue_of(module: str) -> str:
    """Import a module and return the name of the one queue that it has tasks for.

    Raises:
        ProcessorLoadError: it cannot be imported, or has no queue.
        SettingsError: it has several; one must be named.
    """
    import_module(module)
    names = sorted({queue.name for queue in known_queues if queue.tasks or queue.default_processor})
    if not names:
        raise errors.ProcessorLoadError(f"module {module!r} has no queue with tasks")
    if len(names) > 1:
        raise errors.SettingsError(f"module {module!r} has queues {', '.join(names)}: choose one with --queue")
    return names[0]


def import_module(module: str) -> None:
    """Import the user's module, looking also in the current folder. Raises ProcessorLoadError."""
    try:
        if str(Path.cwd()) not in sys.path and "" not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
    except FileNotFoundError:
        raise errors.ProcessorLoadError("the current folder is gone: change into one that exists") from None
    try:
        importlib.import_module(module)
    except BaseException as problem:
        # Also SystemExit, of a script without `if __name__ == "__main__"`, and KeyboardInterrupt.
        missing = problem.name if isinstance(problem, ModuleNotFoundError) else None
        if missing and (module == missing or module.startswith(missing + ".")):
            raise errors.ProcessorLoadError(
                f"there is no module {module!r} (looked for {missing!r} in {_search_path()})"
            ) from None
        if isinstance(problem, SystemExit):
            code = "" if problem.code is None else problem.code
            raise errors.ProcessorLoadError(
                f"module {module!r} ends the program when it is imported: sys.exit({code}){_place(problem)}"
            ) from None
        raise errors.ProcessorLoadError(f"module {module!r} cannot be imported: {_where(problem)}") from problem


def how_of(function: Callable[..., Any], *, is_inline: bool = False) -> How:
    """How a function is run; a callable object, as its `__call__`."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return How.ASYNC
    return How.INLINE if is_inline else How.THREAD


def _where(problem: BaseException) -> str:
    """The error and the line of the user's code that raised it."""
    words = " ".join(str(problem).splitlines())
    return f"{type(problem).__name__}: {words}{_place(problem)}"


def _place(problem: BaseException) -> str:
    """The last line of the user's code that an error came through."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if "importlib" not in frame.filename]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""


def _search_path() -> str:
    return ", ".join(path or str(Path.cwd()) for path in sys.path[:3]) + (", …" if len(sys.path) > 3 else "")
