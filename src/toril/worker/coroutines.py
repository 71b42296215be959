"""Drives the coroutines of jobs: several jobs, one after the other, in one task, as long as none of them waits."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

from toril.tasks.context import JobRun, current_run
from toril.worker import forks
from toril.worker.processors import Processor

TASK_NAME = "toril job"
"""Of the tasks that jobs run in, unless a job gives its own another."""


class Turn:
    """One task of the executor's. Kept until its end, since a loop only knows its tasks weakly."""

    __slots__ = ("references", "task")
    task: asyncio.Task[None]
    """Unset until `create_task` has returned."""
    references: int
    """To the task, as counted when it began."""

    @property
    def is_marked(self) -> bool:
        """Whether a job has cancelled the task, named it, kept it (for a timer, say), or has something called at its
        end: the next job is not to be hit by that, nor to hold it up.

        Before Python 3.13 a cancellation that is taken back at once is delivered all the same. Tasks that are not
        asyncio's own may lack what asyncio tells by private names: they may be marked, and count as such.
        """
        return (
            self.task.cancelling() > 0
            or sys.getrefcount(self.task) > self.references
            or bool(getattr(self.task, "_callbacks", True))
            or getattr(self.task, "_must_cancel", True)
            or self.task.get_name() != TASK_NAME
        )


class Rest:
    """A coroutine that waits for something, and the context that its steps belong to."""

    __slots__ = ("context", "coroutine", "is_dropped", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, waits_for: Any) -> None:
        self.coroutine = coroutine
        self.context = context
        self.waits_for = waits_for
        self.is_dropped = False
        """Whether the task was thrown away, with its loop: there is nothing left to run the coroutine."""


class Awaitable:
    """What a function in a thread returned, to be awaited on the loop, and the context that this belongs to."""

    __slots__ = ("context", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.context = contextvars.copy_context()

    def drop(self) -> None:
        """It will not be awaited."""
        if isinstance(self.value, types.CoroutineType):
            self.value.close()


_PLAIN = frozenset({type(None), str, int, float, bool, dict, list, tuple})


def is_awaitable(value: Any) -> bool:
    """Whether a result is not there yet, as of a plain function around an `async def`."""
    return type(value) not in _PLAIN and inspect.isawaitable(value)


@types.coroutine
def drive(rest: Rest) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine, each step inside its context."""
    run, waits_for = rest.context.run, rest.waits_for
    send, throw = rest.coroutine.send, rest.coroutine.throw
    try:
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                rest.is_dropped = True
                run(rest.coroutine.close)
                raise
            except BaseException as thrown:
                waits_for = run(throw, thrown)
            else:
                waits_for = run(send, sent)
            if forks.is_child:
                forks.end_child(forks.CANNOT_WAIT)
    except StopIteration as stop:
        return stop.value


Step = tuple[Coroutine[Any, Any, Any] | None, Any, Any]
"""A coroutine that waits, and what for; without one, third, what was returned."""


def first_step(processor: Processor, run: JobRun) -> Step:
    """Call an `async def` and go to its first wait."""
    current_run.set(run)
    return begin(processor.call(run))


def begin(awaitable: Any) -> Step:
    """Await something until it waits; what it returns is awaited too if it can be, as a promise's result is."""
    while True:
        coroutine = awaitable if isinstance(awaitable, types.CoroutineType) else as_coroutine(awaitable)
        try:
            return coroutine, coroutine.send(None), None
        except StopIteration as stop:
            if not is_awaitable(stop.value):
                return None, None, stop.value
            awaitable = stop.value


async def drive_on(rest: Rest, value: Any) -> Any:
    """Await what was returned, as long as that can be awaited, in the same context."""
    while is_awaitable(value):
        coroutine, waits_for, value = rest.context.run(begin, value)
        if coroutine is not None:
            rest.coroutine, rest.waits_for = coroutine, waits_for
            value = await drive(rest)
    return value


async def as_coroutine(awaitable: Any) -> Any:
    """Anything that can be awaited, as a coroutine."""
    return await awaitable
