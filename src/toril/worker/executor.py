"""Runs jobs, many at the same time, each in a context of its own; collects how they ended. Talks to nobody."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import math
import random
import time
import types
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol

from toril import errors
from toril.jobs.outcome import TakenJob
from toril.tasks.context import JobChannel, current_run
from toril.worker import forks, outcomes
from toril.worker.attempt import Attempt
from toril.worker.coroutines import Awaitable, as_coroutine, drive, is_awaitable
from toril.worker.outcomes import RuleBook
from toril.worker.prefetch import Prefetch
from toril.worker.problems import let_go
from toril.worker.processors import How, Processor, Processors
from toril.worker.suspects import Suspects
from toril.worker.threads import Threads

AHEAD_SECONDS = 0.05
"""A job taken ahead that had no slot for so long, or up to twice that, is given back: another worker may be idle."""

TURN_SECONDS = 0.005
"""Jobs that compute start one after the other for so long; then the loop has its turn: it renews locks, and hears of
those that are lost."""
TASK_NAME = "toril job"
"""Of the tasks that jobs run in, unless a job gives its own another."""


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
        self._ended: list[Attempt] = []
        self._unstarted = 0  # tasks that are made and whose jobs have not begun
        self._turn_ends = math.inf  # when the loop is to have its turn, `time.monotonic`
        self._is_turn_over = False
        self._leftovers: set[asyncio.Task[None]] = set()  # a loop only knows its tasks weakly
        self._is_report_due = False
        self._is_begin_due = False
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
        for run in runs[:free]:
            self._begin(run)

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
            # A task that is cancelled before its first step never runs: nothing would see the job's end.
            if run.task is not None and run.started:
                run.task.cancel()

    async def abandon(self, wait_seconds: float) -> list[Attempt]:
        """Cancel all runs, give coroutines `wait_seconds` to clean up, and forget all. Returns those that were ours."""
        # What is done is not to be done again.
        self._threads.report_ended()
        self.has_leftovers = self.has_leftovers or bool(self.running)
        runs = self._unended()
        self._ahead.clear()
        self._suspects = Suspects()
        self.cancel(runs)
        self.is_abandoning = True
        try:
            tasks = {run.task for run in self.running if run.task is not None}
            if tasks:
                _, self._leftovers = await asyncio.wait(tasks, timeout=wait_seconds)
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

    def _begin(self, run: Attempt) -> None:
        """Give a job a slot and let it start: on the loop's next turn, so that no job starts inside another's end."""
        self.running.add(run)
        try:
            processor = self._admit(run.record)
            if processor.how is How.THREAD:
                run.started = time.monotonic()
                context = self._context.copy()
                self._threads.submit(run, lambda: context.run(_call_in_thread, processor, run))
                if not self._is_begin_due:
                    self._is_begin_due = True
                    self._loop.call_soon(self._begin_in_threads)
                return
        except Exception as problem:
            self._loop.call_soon(self._settle, run, None, problem)
        else:
            self._start_task(run, processor.call, self._context.copy())

    def _start_task(self, run: Attempt, call: Callable[[Attempt], Any], context: contextvars.Context) -> None:
        if not self._unstarted:
            self._turn_ends = math.inf
        self._unstarted += 1
        run.task = self._loop.create_task(self._run(run, call), name=TASK_NAME, context=context)

    async def _run(self, run: Attempt, call: Callable[[Attempt], Any]) -> None:
        """One job that runs on the loop, from its first step to its last.

        Args:
            call: starts the job, or goes on with it. What it returns is awaited if it can be.
        """
        if run.task is None:
            # The loop begins tasks before it gives them out, as with `asyncio.eager_task_factory`.
            await asyncio.sleep(0)
        now = time.monotonic()
        while now > self._turn_ends:
            await self._let_loop_turn()
            now = time.monotonic()
        if self._turn_ends == math.inf:
            self._turn_ends = now + TURN_SECONDS
        self._unstarted -= 1
        value: Any = None
        problem: BaseException | None = None
        try:
            if not run.is_cancelled:
                run.started = run.started or now
                current_run.set(run)
                value = call(run)
                while is_awaitable(value):
                    # What a function returns is awaited too if it can be, as a promise's result is.
                    coroutine = value if type(value) is types.CoroutineType else as_coroutine(value)
                    try:
                        waits_for = coroutine.send(None)
                    except StopIteration as stop:
                        value = stop.value
                    else:
                        run.has_waited = True
                        value = await drive(coroutine, waits_for)
        except GeneratorExit as raised:
            if not self._loop.is_running():
                # The task is thrown away, with its loop: the job has not raised this.
                raise
            problem = raised
        except BaseException as raised:
            # Also CancelledError and SystemExit: whatever a function raises ends its job and nothing else.
            problem = raised
        self._settle(run, value, problem)
        run.task = None

    async def _let_loop_turn(self) -> None:
        if not self._is_turn_over:
            self._is_turn_over = True
            # Comes before the jobs that wait here: the first of them begins a new turn.
            self._loop.call_soon(self._begin_turn)
        await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        self._is_turn_over = False
        self._turn_ends = math.inf

    def _begin_in_threads(self) -> None:
        self._is_begin_due = False
        reports_later, self._is_report_due = self._is_report_due, True
        self._threads.begin()
        if not reports_later:
            self._report_ended()

    def _ended_in_thread(self, run: Attempt, value: Any, problem: BaseException | None) -> None:
        if type(value) is not Awaitable:
            run.has_waited = True
            self._settle(run, value, problem)
        elif run.is_cancelled:
            value.drop()
            self._settle(run, None, None)
        else:
            # The function has returned what is to be awaited, as a plain function around an `async def` does.
            self._start_task(run, lambda _: value.value, value.context)

    def _admit(self, job: TakenJob) -> Processor:
        """The processor to run. Raises UnrecoverableError when the job is to fail without being run."""
        reason = job.deferred_failure
        if reason is not None:
            raise errors.UnrecoverableError(reason)
        limit = self._max_started_attempts
        if limit is not None and job.attempts_started > limit:
            raise errors.UnrecoverableError("job started more than allowable limit")
        return self._processors.find(job.name)

    def _settle(self, run: Attempt, value: Any, problem: BaseException | None) -> None:
        """A job's function has returned `value`, or raised `problem`: decide how the attempt ends."""
        if forks.is_child:
            forks.end_child(problem)
        if run.started:
            run.seconds = time.monotonic() - run.started
        try:
            if run.is_cancelled:
                if problem is not None:
                    let_go(problem)
            elif problem is None:
                try:
                    run.finish = outcomes.completed(run.record, value, run.rules)
                except errors.InvalidPayloadError as invalid:
                    # The work is done and would be done again: another attempt would return the same.
                    self._fail(run, errors.UnrecoverableError(str(invalid)))
            else:
                self._fail(run, problem)
            self._end(run)
        except Exception as unforeseen:
            self.listener.break_off(unforeseen)

    def _fail(self, run: Attempt, problem: BaseException) -> None:
        run.error = problem
        trace = _user_trace(problem.__traceback__)
        run.finish = outcomes.failed(run.record, problem, run.rules, random.random, trace)

    def _end(self, run: Attempt) -> None:
        self.running.discard(run)
        if run.has_waited:
            self._ahead_rule.record(run.seconds)
        following = self._ahead.popleft() if self._ahead else None
        if not self._suspects.is_empty and not self.running and not following:
            following = self._suspects.next_one()
        if following:
            self._begin(following)
        if not run.is_cancelled:
            self._ended.append(run)
        if not self._is_report_due:
            if not self._unstarted and not run.has_waited:
                # Nothing else ends in this turn of the loop.
                self._report_ended()
            else:
                self._is_report_due = True
                self._loop.call_soon(self._report_ended)

    def _report_ended(self) -> None:
        self._is_report_due = False
        self.listener.pump()


def _call_in_thread(processor: Processor, run: Attempt) -> Any:
    if run.is_cancelled:
        # Given back while it waited for a thread: it may run elsewhere.
        return None
    current_run.set(run)
    value = processor.call(run)
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
