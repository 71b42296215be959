"""Calls the functions of `@queue.before_job` and `@queue.after_job` around each attempt, where the attempt runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from toril.tasks.context import Job, JobRun
from toril.worker import forks
from toril.worker.coroutines import as_coroutine, is_awaitable
from toril.worker.processors import How, Processor, how_of

JobHook = Callable[[Job], Any]

logger = logging.getLogger("toril.worker")


class AroundProcessor(Processor):
    """A processor with functions before and after it."""

    __slots__ = ("_after", "_before", "_inner")

    def __init__(self, inner: Processor, before: Sequence[JobHook], after: Sequence[JobHook]) -> None:
        how = inner.how
        if how is How.INLINE and any(how_of(hook) is How.ASYNC for hook in (*before, *after)):
            # Only a coroutine can wait for them on the loop.
            how = How.ASYNC
        super().__init__(inner.function, how, None)
        self._inner = inner
        self._before = before
        self._after = after

    def call(self, run: JobRun) -> Any:
        return self._call_on_loop(run) if self.how is How.ASYNC else self._call_plainly(run)

    async def _call_on_loop(self, run: JobRun) -> Any:
        try:
            for hook in self._before:
                await _if_awaitable(hook(Job(run)))
            return await _if_awaitable(self._inner.call(run))
        finally:
            await self._call_after(run)

    def _call_plainly(self, run: JobRun) -> Any:
        value: Any = None
        try:
            for hook in self._before:
                _wait_for(run, hook(Job(run)))
            value = self._inner.call(run)
        finally:
            if not is_awaitable(value):
                self._call_after_plainly(run)
        return self._await_then_after(run, value) if is_awaitable(value) else value

    async def _await_then_after(self, run: JobRun, value: Any) -> Any:
        try:
            return await _if_awaitable(value)
        finally:
            await self._call_after(run)

    async def _call_after(self, run: JobRun) -> None:
        for hook in () if forks.is_child else self._after:
            try:
                await _if_awaitable(hook(Job(run)))
            except (Exception, SystemExit, KeyboardInterrupt):
                _log_failure(run)

    def _call_after_plainly(self, run: JobRun) -> None:
        for hook in () if forks.is_child else self._after:
            try:
                _wait_for(run, hook(Job(run)))
            except BaseException:
                # Also SystemExit: the job is done.
                _log_failure(run)


async def _if_awaitable(value: Any) -> Any:
    while is_awaitable(value):
        value = await value
    return value


def _wait_for(run: JobRun, value: Any) -> None:
    """In a thread: what an `async` function has returned is awaited on the worker's loop."""
    if is_awaitable(value):
        coroutine: Coroutine[Any, Any, Any] = as_coroutine(value)
        asyncio.run_coroutine_threadsafe(coroutine, run.loop).result()


def _log_failure(run: JobRun) -> None:
    extra = {"job_id": run.record.id, "job_name": run.record.name}
    logger.exception("a function of after_job failed", extra=extra)
