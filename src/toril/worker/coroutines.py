"""Drives the coroutines of jobs: several jobs, one after the other, in one task, as long as none of them waits."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

from toril.job_context import JobRun, current_run
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
                forks.leave(forks.CANNOT_WAIT)
    except StopIteration as stop:
        return stop.value


def first_step(processor: Processor, run: JobRun) -> tuple[Coroutine[Any, Any, Any] | None, Any, Any]:
    """Call an `async def` and go to its first wait. Returns it and what it waits for; third what it returned, if it did
    not wait."""
    current_run.set(run)
    coroutine = processor.call(run)
    if not isinstance(coroutine, types.CoroutineType):
        coroutine = _as_coroutine(coroutine)
    try:
        return coroutine, coroutine.send(None), None
    except StopIteration as stop:
        return None, None, stop.value


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable
