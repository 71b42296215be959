"""Runs jobs, many at the same time, each in a context of its own; collects how they ended. Talks to nobody."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import random
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol

from toril import errors
from toril.jobs.outcome import TakenJob
from toril.tasks.context import JobChannel, JobRun, current_run
from toril.worker import forks, outcomes
from toril.worker.attempt import Attempt
from toril.worker.coroutines import (
    TASK_NAME,
    Awaitable,
    Rest,
    Turn,
    as_coroutine,
    begin,
    drive,
    drive_on,
    first_step,
    is_awaitable,
)
from toril.worker.outcomes import RuleBook
from toril.worker.prefetch import Prefetch
from toril.worker.problems import let_go
from toril.worker.processors import How, Processor, Processors
from toril.worker.suspects import Suspects
from toril.worker.threads import Threads

AHEAD_SECONDS = 0.05
"""A job taken ahead that had no slot for so long, or up to twice that, is given back: another worker may be idle."""

TURN_SECONDS = 0.005
"""Jobs that do not wait are run one after the other for so long; then the loop has its turn."""


class Listener(Protocol):
    """What an executor calls, on its event loop."""

    def pump(self) -> None:
        """`take_ended` has something new, or a slot is free again. Called once for all that end in one turn."""

    def give_back(self, runs: Sequence[Attempt]) -> None:
        """These runs were taken ahead and have had no slot for too long. The executor has forgotten them."""

    def break_off(self, problem: Exception) -> None:
        """The executor is at fault: it has lost a run."""


class Executor:
    """The running jobs of one worker. Everything here runs on one event loop."""

    def __init__(
        self,
        processors: Processors,
        rules: RuleBook,
        channel: JobChannel,
        *,
        concurrency: int,
        max_started_attempts: int | None = None,
    ) -> None:
        """Args:
        max_started_attempts: a job that was started more often fails without being run; None = no limit.
        """
        self.running: set[Attempt] = set()
        """Jobs whose functions run, or are about to; each holds a slot."""
        self.listener: Listener
        """Set by the listener itself, before the first job starts: it is made from an executor."""
        self.takes_ahead = True
        """Whether there is `room` for jobs that have no slot yet."""
        self.is_abandoning = False
        """Whether `abandon` is under way: the runs that it will return are held nowhere else."""
        self.has_leftovers = False
        """Whether runs were abandoned; their functions, and what they started, may go on for ever."""
        self._processors = processors
        self._rules = rules
        self._channel = channel
        self._max_started_attempts = max_started_attempts
        self._loop = asyncio.get_running_loop()
        # Jobs start in answers and in calls from threads too, which run in other contexts: even in another job's.
        self._context = contextvars.copy_context()
        self._concurrency = concurrency
        self._ahead: collections.deque[Attempt] = collections.deque()  # taken, and without a slot yet
        self._seen_ahead: set[Attempt] = set()
        self._watch: asyncio.TimerHandle | None = None
        # What a killed worker had taken counts as started.
        self._ahead_rule = Prefetch(concurrency if max_started_attempts is None else 0)
        self._suspects = Suspects()
        self._ready: collections.deque[Attempt] = collections.deque()
        self._ended: list[Attempt] = []
        self._turns: set[Turn] = set()
        self._jobs_wait = False
        self._is_report_due = False
        self._threads: Threads[Attempt] = Threads(self._loop, concurrency, self._ended_in_thread)

    def prepare(self, job: TakenJob) -> Attempt:
        """The record of an attempt at `job`, without starting it."""
        return Attempt(job, self._channel, self._loop, self._rules.of(job))

    def start(self, jobs: Sequence[TakenJob]) -> None:
        """Run jobs, those beyond the free slots when there are some. Returns at once."""
        runs, free = [self.prepare(job) for job in jobs], self._concurrency - len(self.running)
        if not self._suspects.is_empty or any(job.is_suspect for job in jobs):
            runs, others = self._suspects.admit(runs, is_idle=not self.running)
            # Each goes back to the front: the first one last.
            self.listener.give_back(others[::-1])
        self._ahead += runs[free:]
        self._watch_ahead()
        self._start(runs[:free])

    @property
    def free(self) -> int:
        """How many slots a job could start in at once. None while a suspect waits or runs: see `suspects`."""
        return self._concurrency - len(self.running) if self._suspects.is_empty else 0

    @property
    def room(self) -> int:
        """How many jobs may be taken now: for the free slots, and ahead."""
        if not self._suspects.is_empty:
            return 0
        allowance = self._ahead_rule.allowance if self.takes_ahead else 0
        return self._concurrency + allowance - len(self.running) - len(self._ahead)

    @property
    def held(self) -> list[Attempt]:
        """The runs that are still ours here: running, or ended and not yet given out by `take_ended`."""
        return self._unended() + self._ended

    def _unended(self) -> list[Attempt]:
        waiting = self._suspects.waiting
        runs = (*self.running, *self._ahead, *([waiting] if waiting else []))
        return [run for run in runs if not run.is_cancelled]

    def take_ended(self) -> list[Attempt]:
        """The runs that have ended since the last call; those that were cancelled are not told."""
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, runs: Iterable[Attempt]) -> None:
        """Tell runs to stop; whatever they return is dropped. A function in a thread goes on until it looks."""
        for run in runs:
            run.is_cancelled = True
            if run.task is not None:
                run.task.cancel()

    async def abandon(self, wait_seconds: float) -> list[Attempt]:
        """Cancel all runs, give coroutines `wait_seconds` to clean up, and forget all. Returns those that were ours."""
        # What is done is not to be done again.
        self._threads.report_ended()
        self.has_leftovers = self.has_leftovers or bool(self.running)
        runs = self._unended()
        self._ahead.clear()
        self._suspects = Suspects()
        for run in self._ready:
            self.running.discard(run)
        self._ready.clear()
        self.cancel(runs)
        self.is_abandoning = True
        try:
            tasks = {run.task for run in self.running if run.task is not None}
            if tasks:
                await asyncio.wait(tasks, timeout=wait_seconds)
        finally:
            self.is_abandoning = False
        self.running.clear()
        return runs

    def close(self) -> None:
        self._threads.close()

    # ---- running

    def _watch_ahead(self) -> None:
        if self._ahead and self._watch is None:
            self._seen_ahead = set(self._ahead)
            self._watch = self._loop.call_later(AHEAD_SECONDS, self._give_late_back)

    def _give_late_back(self) -> None:
        self._watch = None
        late = [run for run in self._ahead if run in self._seen_ahead]
        if late:
            self._ahead_rule.stop()
            self._ahead = collections.deque(run for run in self._ahead if run not in self._seen_ahead)
            # Each goes back to the front: the first one last.
            self.listener.give_back([run for run in reversed(late) if not run.is_cancelled])
        self._watch_ahead()

    def _start(self, runs: Sequence[Attempt]) -> None:
        self.running.update(runs)
        self._ready += runs
        # Where the last job waited these may wait too, and each will need a task: all of them in one turn of the loop.
        for _ in range(len(runs) if self._jobs_wait else min(1, len(runs))):
            self._spawn()

    def _spawn(self) -> None:
        turn = Turn()
        turn.task = self._loop.create_task(self._run_ready(turn), name=TASK_NAME)
        self._turns.add(turn)

    async def _run_ready(self, turn: Turn) -> None:
        """Run jobs one after the other. While one waits it has this task for itself, and the rest gets another.

        A job that never waits costs no task of its own, and one that does is driven by one task from its first step
        to its last, so that `asyncio.timeout` and `asyncio.current_task` work as everywhere.
        """
        try:
            if not hasattr(turn, "task"):
                # The loop begins tasks before it gives them out, as with `asyncio.eager_task_factory`.
                await asyncio.sleep(0)
            turn.references = sys.getrefcount(turn.task)
            while (waiting := self._run_until_one_waits(turn)) is not None:
                await self._follow(*waiting)
                if turn.is_marked:
                    if self._ready:
                        self._spawn()
                    break
        except Exception as unforeseen:
            self.listener.break_off(unforeseen)
        finally:
            self._turns.discard(turn)

    def _run_until_one_waits(self, turn: Turn) -> tuple[Attempt, Rest] | None:
        reports_later, self._is_report_due = self._is_report_due, True
        deadline = time.monotonic() + TURN_SECONDS
        waiting = None
        while self._ready and waiting is None:
            run = self._ready.popleft()
            if run.is_cancelled:
                self._end(run)
                continue
            rest = self._begin(run)
            self._jobs_wait = rest is not None
            if rest is not None:
                run.task = turn.task
                waiting = run, rest
            elif self._ready and (time.monotonic() > deadline or turn.is_marked):
                self._spawn()
                break
        self._threads.begin()
        if not reports_later:
            self._report_ended()
        return waiting

    def _begin(self, run: Attempt) -> Rest | None:
        """Start a job. Returns what is left of it when it waits for something."""
        run.started = time.monotonic()
        context = self._context.copy()
        try:
            processor = self._admit(run.record)
            if processor.how is How.ASYNC:
                coroutine, waits_for, value = context.run(first_step, processor, run)
                if coroutine is not None:
                    if forks.is_child:
                        forks.end_child(forks.CANNOT_WAIT)
                    return Rest(coroutine, context, waits_for)
            elif processor.how is How.THREAD:
                self._threads.submit(run, lambda: context.run(_call_unless_cancelled, processor, run))
                return None
            else:
                value = context.run(_call, processor, run)
                if is_awaitable(value):
                    coroutine, waits_for, value = context.run(begin, value)
                    if coroutine is not None:
                        return Rest(coroutine, context, waits_for)
        except BaseException as problem:
            # Also CancelledError and SystemExit: whatever a function raises ends its job and nothing else.
            self._failed(run, problem)
        else:
            self._completed(run, value)
        return None

    async def _follow(self, run: Attempt, rest: Rest) -> None:
        """See a job that waits through to its end, in this task; the others of the line go on without it."""
        if self._ready:
            self._spawn()
        try:
            value = await drive(rest)
            if is_awaitable(value):
                value = await drive_on(rest, value)
        except BaseException as problem:
            if rest.is_dropped:
                raise
            self._failed(run, problem)
        else:
            self._completed(run, value)
        run.task = None
        self._ahead_rule.record(run.seconds)

    def _ended_in_thread(self, run: Attempt, value: Any, problem: BaseException | None) -> None:
        try:
            if problem is not None:
                self._failed(run, problem)
            elif type(value) is Awaitable:
                self._await(run, value)
                return
            else:
                self._completed(run, value)
        except Exception as unforeseen:
            self.listener.break_off(unforeseen)
        self._ahead_rule.record(run.seconds)
        if self._ready:
            self._spawn()

    def _await(self, run: Attempt, awaitable: Awaitable) -> None:
        """Let a function go on, on the loop, that has returned in its thread what is to be awaited."""
        if run.is_cancelled:
            awaitable.drop()
            self._end(run)
            return
        turn, rest = Turn(), Rest(as_coroutine(awaitable.value), awaitable.context, None)
        turn.task = run.task = self._loop.create_task(self._go_on(turn, run, rest), name=TASK_NAME)
        self._turns.add(turn)

    async def _go_on(self, turn: Turn, run: Attempt, rest: Rest) -> None:
        try:
            await self._follow(run, rest)
        except Exception as unforeseen:
            self.listener.break_off(unforeseen)
        finally:
            self._turns.discard(turn)

    def _admit(self, job: TakenJob) -> Processor:
        """The processor to run. Raises UnrecoverableError when the job is to fail without being run."""
        reason = job.deferred_failure
        if reason is not None:
            raise errors.UnrecoverableError(reason)
        limit = self._max_started_attempts
        if limit is not None and job.attempts_started > limit:
            raise errors.UnrecoverableError("job started more than allowable limit")
        return self._processors.find(job.name)

    def _completed(self, run: Attempt, value: Any) -> None:
        if forks.is_child:
            forks.end_child()
        run.seconds = time.monotonic() - run.started
        if not run.is_cancelled:
            try:
                run.finish = outcomes.completed(run.record, value, run.rules)
            except errors.InvalidPayloadError as problem:
                # The work is done and would be done again: another attempt would return the same.
                self._failed(run, errors.UnrecoverableError(str(problem)))
                return
        self._end(run)

    def _failed(self, run: Attempt, problem: BaseException) -> None:
        if forks.is_child:
            forks.end_child(problem)
        run.seconds = run.seconds or time.monotonic() - run.started
        if run.is_cancelled:
            let_go(problem)
        else:
            run.error = problem
            trace = _user_trace(problem.__traceback__)
            run.finish = outcomes.failed(run.record, problem, run.rules, random.random, trace)
        self._end(run)

    def _end(self, run: Attempt) -> None:
        self.running.discard(run)
        following = self._ahead.popleft() if self._ahead else None
        if not self._suspects.is_empty and not self.running and not following:
            following = self._suspects.next_one()
        if following:
            # Whoever runs here goes on with it.
            self.running.add(following)
            self._ready.append(following)
        if not run.is_cancelled:
            self._ended.append(run)
        if not self._is_report_due:
            self._is_report_due = True
            self._loop.call_soon(self._report_ended)

    def _report_ended(self) -> None:
        self._is_report_due = False
        self.listener.pump()


def _call(processor: Processor, run: JobRun) -> Any:
    current_run.set(run)
    return processor.call(run)


def _call_unless_cancelled(processor: Processor, run: JobRun) -> Any:
    """As `_call`; a job that was given back while it waited for a thread may run elsewhere."""
    if run.is_cancelled:
        return None
    value = _call(processor, run)
    return Awaitable(value) if is_awaitable(value) else value


def _user_trace(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the user's function."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "") in _OWN_MODULES:
        trace = trace.tb_next
    return trace


_OWN_MODULES = {
    __name__,
    "toril.worker.around",
    "toril.worker.coroutines",
    "toril.worker.processors",
    "toril.worker.threads",
    "asyncio.futures",
}
"""Their frames are left out of the stack traces that are stored."""
