"""Calls users' functions when a worker starts and stops, and when ends of jobs are recorded. No job needs them."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from toril import errors
from toril.tasks.context import Job
from toril.tasks.hooks import HookFunctions
from toril.worker import processors
from toril.worker.attempt import Attempt
from toril.worker.processors import How

WAIT_SECONDS = 10.0
"""How long a worker that ends waits for functions that still run, and as long for those of `on_stop`."""
MAX_WAITING = 1000
"""Jobs whose functions may run or wait at a time; further ones are left out: all would fill the memory."""

logger = logging.getLogger("toril.worker")

Named = tuple[str, Callable[..., Any]]
"""A function, and the decorator that registered it."""


class Hooks:
    """The functions of a queue's hooks; those for the end of a job are called one after the other."""

    def __init__(self, functions: HookFunctions) -> None:
        failed: list[Named] = [("on_attempt_failed", function) for function in functions.attempt_failed]
        exhausted: list[Named] = [("on_exhausted", function) for function in functions.exhausted]
        self._start = functions.start
        self._stop = functions.stop
        self._has_started = False
        self._by_kind: dict[str, list[Named]] = {
            "completed": [("on_completed", function) for function in functions.completed],
            "retry": failed,
            "failed": failed + exhausted,
        }
        self._tasks: set[asyncio.Task[None]] = set()
        # What a function sees is not to depend on which job's call brought the answer.
        self._context = contextvars.copy_context()

    async def start(self) -> None:
        """Call the functions of `on_start`; what one raises is raised."""
        for function in self._start:
            await _call(function)
        self._has_started = True

    def recorded(self, runs: Sequence[Attempt]) -> None:
        """These ends are in Redis. Returns at once; releases the runs, now or when the functions have returned."""
        by_kind = self._by_kind
        for run in runs:
            functions = by_kind.get(run.outcome.kind)
            if functions:
                self._begin(run, functions)
            elif run.error is not None:
                run.release()

    async def close(self) -> None:
        """Wait for what runs, but not for ever; then call the functions of `on_stop`, if the worker had started."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=WAIT_SECONDS)
            for task in late:
                task.cancel()
        if self._stop and self._has_started:
            task = asyncio.create_task(self._call_stop(), name="toril stop")
            await asyncio.wait([task], timeout=WAIT_SECONDS)
            task.cancel()

    def _begin(self, run: Attempt, functions: Sequence[Named]) -> None:
        if len(self._tasks) >= MAX_WAITING:
            logger.error("%s is not called: it has %d jobs to do", functions[-1][0], MAX_WAITING, extra=_extra(run))
            run.release()
        else:
            task = asyncio.create_task(self._run(run, functions), name="toril hook", context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, run: Attempt, functions: Sequence[Named]) -> None:
        what: Any = None
        try:
            if run.outcome.kind == "completed":
                what = json.loads(run.outcome.value)
            else:
                what = run.error or errors.UnrecoverableError(run.outcome.value)
            for name, function in functions:
                await _call_safely(name, function, Job(run), what, extra=_extra(run))
        finally:
            del what
            run.release()

    async def _call_stop(self) -> None:
        for function in self._stop:
            await _call_safely("on_stop", function)


async def _call_safely(name: str, function: Callable[..., Any], *arguments: Any, extra: Any = None) -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        await _call(function, *arguments)
    except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError):
        if task.cancelling():
            # From outside: nobody waits any more.
            raise
        logger.exception("a function of %s failed", name, extra=extra)


async def _call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function, a plain one in a thread, and await what it returns if that can be awaited."""
    if processors.how_of(function) is How.ASYNC:
        await function(*arguments)
        return
    value, problem = await asyncio.to_thread(_outcome_of, function, arguments)
    if problem is not None:
        raise problem
    if inspect.isawaitable(value):
        await value


def _outcome_of(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, BaseException | None]:
    """Not every exception can be handed to the loop by a thread: StopIteration cannot."""
    try:
        return function(*arguments), None
    except StopIteration as problem:
        return None, RuntimeError(f"raised StopIteration: {problem}")
    except BaseException as problem:
        return None, problem


def _extra(run: Attempt) -> dict[str, str]:
    return {"job_id": run.record.id, "job_name": run.record.name}
