"""Runs jobs, many at the same time, each in a context of its own; collects how they ended. Talks to nobody."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import random
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from toril import errors
from toril.engine.active import Finish, TakenJob
from toril.job_context import JobChannel, JobRun, current_run
from toril.worker import outcomes
from toril.worker.outcomes import RuleBook, Rules
from toril.worker.processors import How, Processor, Processors

TURN_SECONDS = 0.005
"""Jobs that do not wait are run one after the other for so long; then the loop has its turn."""


class Run(JobRun):
    """One attempt at one job, from its being taken to its end being recorded."""

    __slots__ = ("error", "finish", "is_in_thread", "is_retaken", "is_unsure", "rules", "seconds", "started", "task")
    record: TakenJob

    def __init__(self, job: TakenJob, channel: JobChannel, loop: asyncio.AbstractEventLoop, rules: Rules) -> None:
        super().__init__(job, channel, loop)
        self.rules = rules
        self.task: asyncio.Task[Any] | None = None
        """What a cancellation is sent to; None while the job does not wait for anything."""
        self.is_in_thread = False
        self.started = 0.0
        self.seconds = 0.0
        """How long the function ran."""
        self.finish: Finish | None = None
        """How it ended, once it has."""
        self.error: BaseException | None = None
        self.is_unsure = False
        """Whether the finish was sent once without an answer: it may be recorded."""
        self.is_retaken = False
        """Whether the lock had run out before the finish and was taken back."""

    @property
    def outcome(self) -> Finish:
        assert self.finish is not None, "the job has not ended"
        return self.finish


class Executor:
    """The running jobs of one worker. Everything here runs on one event loop."""

    def __init__(
        self,
        processors: Processors,
        rules: RuleBook,
        channel: JobChannel,
        *,
        concurrency: int,
        on_ended: Callable[[], None],
        max_started_attempts: int | None = None,
    ) -> None:
        """Args:
        on_ended: called when `take_ended` has something new, or a slot is free again.
        max_started_attempts: a job that was started more often fails without being run; None = no limit.
        """
        self.running: set[Run] = set()
        """Jobs whose functions run, or are about to; each holds a slot."""
        self.has_leftovers = False
        """Whether runs were abandoned; their functions, and what they started, may go on for ever."""
        self._processors = processors
        self._rules = rules
        self._channel = channel
        self._on_ended = on_ended
        self._concurrency = concurrency
        self._max_started_attempts = max_started_attempts
        self._loop = asyncio.get_running_loop()
        self._ready: collections.deque[Run] = collections.deque()
        self._ended: list[Run] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool: ThreadPoolExecutor | None = None

    def prepare(self, job: TakenJob) -> Run:
        """The record of an attempt at `job`, without starting it."""
        return Run(job, self._channel, self._loop, self._rules.of(job))

    def start(self, jobs: Sequence[TakenJob]) -> None:
        """Run jobs. Returns at once."""
        for job in jobs:
            run = self.prepare(job)
            self.running.add(run)
            self._ready.append(run)
        if jobs:
            self._spawn()

    @property
    def held(self) -> list[Run]:
        """The runs that are still ours here: running, or ended and not yet given out by `take_ended`."""
        return [run for run in self.running if not run.is_cancelled] + self._ended

    def take_ended(self) -> list[Run]:
        """The runs that have ended since the last call; those that were cancelled are not told."""
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, runs: Iterable[Run]) -> None:
        """Tell runs to stop; whatever they return is dropped. A function in a thread goes on until it looks."""
        for run in runs:
            run.is_cancelled = True
            if run.task is not None:
                run.task.cancel()

    async def abandon(self, wait_seconds: float) -> list[Run]:
        """Cancel all runs, give coroutines `wait_seconds` to clean up, and forget all. Returns those that were ours."""
        self.has_leftovers = bool(self.running)
        runs = [run for run in self.running if not run.is_cancelled]
        for run in self._ready:
            self.running.discard(run)
        self._ready.clear()
        self.cancel(runs)
        tasks = {run.task for run in self.running if run.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=wait_seconds)
        self.running.clear()
        return runs

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- running

    def _spawn(self) -> None:
        task = self._loop.create_task(self._run_ready(), name="toril job")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_ready(self) -> None:
        """Run jobs one after the other until one waits: that one keeps this task, the rest gets another.

        A job that never waits costs no task of its own, and one that does is driven by one task from its first step
        to its last, so that `asyncio.timeout` and `asyncio.current_task` work as everywhere.
        """
        deadline = time.monotonic() + TURN_SECONDS
        while self._ready:
            run = self._ready.popleft()
            await self._run(run)
            if run.task is not None or run.is_in_thread:
                return
            if self._ready and time.monotonic() > deadline:
                self._spawn()
                return

    async def _run(self, run: Run) -> None:
        started = run.started = time.monotonic()
        current_run.set(run)
        context = contextvars.copy_context()
        try:
            processor = self._admit(run.record)
            if processor.how is How.THREAD:
                value = await self._run_in_thread(run, processor, context)
            else:
                value = context.run(processor.call, run)
                if processor.how is How.ASYNC:
                    if not isinstance(value, types.CoroutineType):
                        value = _as_coroutine(value)
                    value = await self._drive(run, value, context)
            run.seconds = time.monotonic() - started
            if not run.is_cancelled:
                run.finish = outcomes.completed(run.record, value, run.rules)
        except GeneratorExit:
            raise
        except errors.InvalidPayloadError as problem:
            # The work is done and would be done again: another attempt would return the same.
            self._failed(run, errors.UnrecoverableError(str(problem)) if run.seconds else problem)
        except BaseException as problem:
            # Also CancelledError and SystemExit: whatever a function raises ends its job and nothing else.
            self._failed(run, problem)
        self._end(run)

    def _admit(self, job: TakenJob) -> Processor:
        """The processor to run. Raises UnrecoverableError when the job is to fail without being run."""
        reason = job.deferred_failure
        if reason is not None:
            raise errors.UnrecoverableError(reason)
        limit = self._max_started_attempts
        if limit is not None and job.attempts_started > limit:
            raise errors.UnrecoverableError("job started more than allowable limit")
        return self._processors.find(job.name)

    def _failed(self, run: Run, problem: BaseException) -> None:
        run.seconds = run.seconds or time.monotonic() - run.started
        run.error = problem
        if not run.is_cancelled:
            trace = _user_trace(problem.__traceback__)
            run.finish = outcomes.failed(run.record, problem, run.rules, random.random, trace)

    def _end(self, run: Run) -> None:
        self.running.discard(run)
        if not run.is_cancelled:
            self._ended.append(run)
        self._on_ended()

    def _gave_way(self) -> None:
        """The current task belongs to a job that waits: the rest of the line goes on without it."""
        if self._ready:
            self._spawn()

    @types.coroutine
    def _drive(
        self, run: Run, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> Generator[Any, Any, Any]:
        """Await a coroutine, each step inside `context`."""
        send, throw = coroutine.send, coroutine.throw
        try:
            waits_for = context.run(send, None)
            run.task = asyncio.current_task()
            self._gave_way()
            while True:
                try:
                    sent = yield waits_for
                except BaseException as thrown:
                    waits_for = context.run(throw, thrown)
                else:
                    waits_for = context.run(send, sent)
        except StopIteration as stop:
            return stop.value

    async def _run_in_thread(self, run: Run, processor: Processor, context: contextvars.Context) -> Any:
        run.is_in_thread = True
        self._gave_way()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="toril-job")
        return await self._loop.run_in_executor(self._pool, lambda: context.run(_call, processor, run))


def _call(processor: Processor, run: JobRun) -> Any:
    try:
        return processor.call(run)
    except StopIteration as problem:
        # A future cannot carry it.
        raise RuntimeError("the function raised StopIteration") from problem


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable


def _user_trace(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the user's function."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "") in _OWN_MODULES:
        trace = trace.tb_next
    return trace


_OWN_MODULES = {__name__, "toril.worker.processors", "asyncio.futures", "concurrent.futures.thread"}
