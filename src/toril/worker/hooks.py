"""Runs what users want to happen when a job has failed for good. Nothing here can harm a job or the worker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from typing import Any

from toril import errors
from toril.job_context import Job
from toril.worker import processors
from toril.worker.attempt import Run
from toril.worker.processors import How

WAIT_SECONDS = 10.0
"""How long a worker that ends waits for hooks that still run."""
MAX_WAITING = 1000
"""Jobs whose hooks may run or wait at a time; further ones are left out: all would fill the memory."""

logger = logging.getLogger("toril.worker")


class Hooks:
    """The functions of `@queue.on_exhausted`, run one after the other for each job that has failed for good."""

    def __init__(self, on_exhausted: Sequence[Callable[[Job, BaseException], Any]]) -> None:
        self._on_exhausted = on_exhausted
        self._tasks: set[asyncio.Task[None]] = set()
        # What a function sees is not to depend on which job's call brought the answer.
        self._context = contextvars.copy_context()

    def recorded(self, runs: Sequence[Run]) -> None:
        """These ends are in Redis. Returns at once; releases the runs, now or when the functions have returned."""
        for run in runs:
            if run.outcome.kind == "failed" and self._on_exhausted:
                self._start(run)
            elif run.error is not None:
                run.release()

    def _start(self, run: Run) -> None:
        if len(self._tasks) >= MAX_WAITING:
            fields = {"job_id": run.record.id, "job_name": run.record.name}
            logger.error("on_exhausted is not called: it has %d jobs to do", MAX_WAITING, extra=fields)
            run.release()
        else:
            task = asyncio.create_task(self._run(run), name="toril hook", context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, run: Run) -> None:
        try:
            await self._call_each(run)
        finally:
            run.release()

    async def _call_each(self, run: Run) -> None:
        task = asyncio.current_task()
        assert task is not None
        problem = run.error or errors.UnrecoverableError(run.outcome.value)
        for function in self._on_exhausted:
            if processors.how_of(function) is not How.ASYNC:
                await asyncio.to_thread(_call, function, run, problem)
                continue
            try:
                await function(Job(run), problem)
            except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError):
                if task.cancelling():
                    # From outside: nobody waits any more.
                    raise
                _tell_failed(run)

    async def close(self) -> None:
        """Wait for what runs, but not for ever."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=WAIT_SECONDS)
            for task in late:
                task.cancel()


def _call(function: Callable[[Job, BaseException], Any], run: Run, problem: BaseException) -> None:
    """Call a plain function, in a thread. Not every exception can be told to the loop: StopIteration cannot."""
    try:
        function(Job(run), problem)
    except BaseException:
        _tell_failed(run)


def _tell_failed(run: Run) -> None:
    logger.exception("a function of on_exhausted failed", extra={"job_id": run.record.id, "job_name": run.record.name})
