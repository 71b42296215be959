"""A worker's calls to Redis: each ends what is done and takes what fits.

Jobs that end while calls are under way ride on the next one, so that a busy worker's calls carry many jobs, and none
waits for a timer. A busy worker's calls follow from one another without the main loop.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import Any

from toril import errors
from toril.engine.codes import Code
from toril.engine.redis.connection import Call
from toril.engine.worker import ActiveJobs, FinishReply, Taken, count_of_such
from toril.jobs.outcome import Finish, TakenJob
from toril.worker import finish_codes
from toril.worker.attempt import Attempt, first_batch
from toril.worker.ends import Ends
from toril.worker.executor import Executor
from toril.worker.in_flight_call import InFlightCall
from toril.worker.reporter import Reporter
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.states import Course, Event, State

MAX_BATCH = 100
"""Jobs ended or taken by one call: enough to make the call's cost vanish, few enough not to hold up Redis."""
CALLS_AT_ONCE = 2
"""Calls under way at a time: Redis works on one while the jobs of the other run. They share the slots."""
LEAST_SHARE = 5
"""Two calls are in flight only with at least so many slots each. Below that, a call's fixed cost is larger than the
wait that it hides."""

FLAGGED_SECONDS = 2.0
"""A worker that is flagged looks so often whether its flag is gone."""


class Backlog(enum.Enum):
    """What is known of the jobs that wait in Redis."""

    EMPTY = "empty"
    """The last call took all there was: only a wake-up, or an end to record, is worth a call."""
    UNKNOWN = "unknown"
    """Worth one call."""
    MORE = "more"
    """The last call took as many as it asked for: worth all calls that may be under way."""


class Pipeline:
    """The calls under way, and the runs whose ends the next call records."""

    def __init__(
        self,
        active: ActiveJobs,
        executor: Executor,
        reporter: Reporter,
        ends: Ends,
        upkeep: SchedulerUpkeep,
        course: Course,
        *,
        token_prefix: str,
        concurrency: int,
        max_rate_limit_wait_ms: int,
        wake: Callable[[], None],
        on_failure: Callable[[errors.RedisError], None],
    ) -> None:
        """Args:
        wake: lets the main loop go round.
        on_failure: called when a call failed or was refused.
        """
        self.pending: list[Attempt] = []
        """Runs that have ended and whose ends no call carries yet."""
        self.refused: list[Attempt] = []
        """Runs whose ends Redis refuses for a lasting reason. Each keeps its slot and its lock; `Recovery` tries the
        ends again."""
        self.in_flight: list[InFlightCall] = []
        self.next_due_ms: float = 0
        """When the first delayed job is due, Unix milliseconds; 0 = not known."""
        self.take_is_unsure = False
        """Whether a call of which no answer came may have taken jobs."""
        self.failures = 0
        """Calls that failed one after the other, recoveries left out."""
        self.broken: BaseException | None = None
        """What is to end the worker: without it, the worker would wait for ever for what was lost."""
        self.token_prefix = token_prefix
        """Of the tokens of all locks of this process."""
        self._active = active
        self._executor = executor
        self._reporter = reporter
        self._ends = ends
        self._upkeep = upkeep
        self._course = course
        self._max_rate_limit_wait_ms = max_rate_limit_wait_ms
        self._wake = wake
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._sure_seconds = active.taker.lock_ms / 2000
        self._takes = 0
        self._asked_for = 0  # jobs that the calls under way may bring
        self._calls_at_once = CALLS_AT_ONCE if concurrency >= CALLS_AT_ONCE * LEAST_SHARE else 1
        self._batch = min(MAX_BATCH, -(-concurrency // self._calls_at_once))
        self._take_at_most = self._batch  # by the size of the last jobs
        self._backlog = Backlog.UNKNOWN
        self._was_woken = False  # while calls were under way, whose answers may be older
        self._paused_until = 0.0
        self._why_paused = Event.LIMITED
        self._is_flagged = False
        executor.listener = self

    # ---- what is held

    @property
    def held(self) -> list[Attempt]:
        """The runs whose locks are to be kept: running, or ended and not recorded yet."""
        return self._executor.held + self.pending + self.refused

    @property
    def unrecorded(self) -> int:
        """How many jobs have ended without Redis knowing it."""
        return len(self.pending) + len(self.refused) + sum(len(call.batch) for call in self.in_flight)

    @property
    def free(self) -> int:
        """Slots that no job, no refused end and no call under way needs."""
        return max(0, self._executor.free - len(self.refused) - self._asked_for)

    def collect(self) -> None:
        """Fetch the runs that have ended from the executor."""
        self.pending += self._executor.take_ended()

    def start(self, jobs: Sequence[TakenJob]) -> None:
        """Run jobs that were taken; a worker that drains gives them back, never started."""
        if jobs:
            self._take_at_most = min(self._batch, count_of_such(jobs))
        if self._course.state.is_draining:
            # Taken by a call that was under way when the worker was told to stop.
            self.give_back([self._executor.prepare(job) for job in jobs])
        else:
            self._executor.start(jobs)

    def give_back(self, runs: Sequence[Attempt]) -> None:
        """Let the next call put these jobs back into the queue, in front."""
        for run in runs:
            run.finish = Finish.requeue(run.record, has_started=run.started > 0)
        self.pending += runs
        self._wake()

    # ---- what to send

    def record_wakeup(self) -> None:
        """A wake-up came: take, also when the calls under way find nothing, since their answers may be older."""
        self.expect_jobs()
        self._was_woken = bool(self.in_flight)

    def expect_jobs(self) -> None:
        """What waits in Redis is not known: ask."""
        if self._backlog is Backlog.EMPTY:
            self._backlog = Backlog.UNKNOWN

    def new_token(self) -> str:
        """The token of one take's locks."""
        self._takes += 1
        return f"{self.token_prefix}{self._takes}"

    def pump(self) -> None:
        """Send what there is to send, without the main loop; the loop does what is not plain sending."""
        if self._course.state.is_recovering or not self._active.connection.is_connected:
            self._wake()
            return
        try:
            self.send_all()
        except BaseException as problem:
            self.broken = problem
        if self.broken or not self.in_flight:
            self._wake()

    def break_off(self, problem: Exception) -> None:
        """End the worker with this exception."""
        self.broken = problem
        self._wake()

    def send_all(self) -> None:
        """Send as many calls as may be under way and have something to do."""
        self.update_pause()
        self.collect()
        while len(self.in_flight) < self._calls_at_once:
            count = self._count_to_take()
            if not self.pending and not count:
                break
            batch, self.pending = first_batch(self.pending, MAX_BATCH)
            self._was_woken = self._was_woken and not count
            finishes = [run.outcome for run in batch]
            self._launch(batch, count, self._active.finishing_and_taking(finishes, count, self.new_token()))

    def update_pause(self) -> None:
        """Go to LIMITED or FLAGGED, or leave that state, by what the last replies said."""
        if self._paused_until:
            if self._paused_until > self._loop.time():
                self._course.apply(self._why_paused)
            else:
                self.end_pause()

    def end_pause(self) -> None:
        """Let the next call take again."""
        self._paused_until = 0.0
        self._course.apply(Event.PAUSE_OVER)

    def _pause(self, why: Event, seconds: float) -> None:
        self._paused_until, self._why_paused = self._loop.time() + seconds, why
        self.expect_jobs()
        self.update_pause()
        self._loop.call_later(seconds + 0.001, self._wake)

    def _count_to_take(self) -> int:
        if self._course.state is not State.RUNNING:
            return 0
        if not self.pending:
            if self._backlog is Backlog.EMPTY:
                return 0
            if self.in_flight and self._backlog is not Backlog.MORE:
                return 0
        # Refused ends leave their slots empty, so that no job may be taken ahead for these slots.
        room = self._executor.room if not self.refused else self._executor.free - len(self.refused)
        return max(0, min(room - self._asked_for, self._take_at_most))

    def _launch(self, batch: list[Attempt], count: int, call: Call[FinishReply], *, by_source: bool = False) -> None:
        sent = InFlightCall(batch, count, call, self._loop.time(), self._landed)
        self._active.connection.send(call, sent, by_source=by_source)
        self.in_flight.append(sent)
        self._asked_for += count

    # ---- what came back

    def _landed(self, sent: InFlightCall, reply: Any, problem: Exception | None) -> None:
        """A call was answered, or never will be."""
        self.in_flight.remove(sent)
        self._asked_for -= sent.count
        try:
            if problem is None:
                self._land(sent, sent.call.parse(reply))
            else:
                self._failed(sent, problem)
        except BaseException as unforeseen:
            self.broken = unforeseen
        self.pump()

    def _failed(self, sent: InFlightCall, problem: Exception) -> None:
        error = self._active.connection.read_problem(problem)
        if error is not None:
            self._crashed(sent, error)
        elif self._active.connection.is_connected:
            # Redis does not know the script, and has done nothing.
            self._launch(sent.batch, sent.count, sent.call, by_source=True)
        else:
            self.pending = sent.batch + self.pending
            self._course.apply(Event.FAILED)

    def _land(self, sent: InFlightCall, reply: FinishReply) -> None:
        self.failures = 0
        self._reporter.accepted("calls")
        self.settle(sent.batch, reply.codes)
        if reply.taken.jobs and self._loop.time() - sent.sent_at > self._sure_seconds:
            # The process slept: the locks may be over, and others have the jobs. Recovery finds those still ours.
            self.take_is_unsure = True
            self._course.apply(Event.FAILED)
        elif sent.count or reply.taken.rate_limit_ms:
            self.record_taken(reply.taken, sent.count)
            if self._upkeep.record_taken(reply.taken.jobs):
                self._wake()

    def _crashed(self, sent: InFlightCall, problem: errors.RedisError) -> None:
        """All of the call is pending again. What a script of a user without rights has begun, the script has undone."""
        if not self._course.state.is_recovering:
            self.failures += 1
        for run in sent.batch:
            run.outcome.is_repeated = True
        if sent.count and problem.reason is not errors.RedisReason.AUTH_FAILED:
            self.take_is_unsure = True
        self.pending = sent.batch + self.pending
        self._reporter.refused("calls", problem)
        self._on_failure(problem)

    def settle(self, batch: Sequence[Attempt], codes: Sequence[int]) -> None:
        """Report what became of the finishes; what was refused and can be mended is pending again."""
        if batch and min(codes) >= 0:
            self._ends.recorded(batch)
            return
        finished = []
        for run, code in zip(batch, codes, strict=True):
            if code >= 0 or finish_codes.was_carried_out(run.outcome, code):
                finished.append(run)
            elif code in finish_codes.BY_CHILDREN and run.outcome.kind != "failed":
                run.finish = finish_codes.failed_by_children(run, code)
                self.pending.append(run)
            elif code == Code.NO_LOCK and not run.is_retaken:
                run.is_retaken = True
                self.pending.append(run)
                self._course.apply(Event.FAILED)
            else:
                self._ends.lost(run, finish_codes.why_lost(code))
        if finished:
            self._ends.recorded(finished)

    def record_taken(self, taken: Taken, count: int) -> None:
        """Start what a call took, and remember what its reply says of the queue. `count`: how many it asked for."""
        # What is given back would stay counted.
        self._executor.takes_ahead = not taken.is_counted
        self.start(taken.jobs)
        if len(taken.jobs) >= count:
            self._backlog = Backlog.MORE
        else:
            self._backlog = Backlog.UNKNOWN if self._was_woken else Backlog.EMPTY
        self.next_due_ms = taken.next_due_ms
        if taken.is_draining is not self._is_flagged and count:
            self._is_flagged = taken.is_draining
            self._reporter.flagged(self._is_flagged)
        if taken.is_draining:
            self._pause(Event.FLAGGED, FLAGGED_SECONDS)
            # The main loop ends a wait for a wake-up.
            self._wake()
        elif taken.rate_limit_ms > 0:
            self._pause(Event.LIMITED, min(taken.rate_limit_ms, self._max_rate_limit_wait_ms) / 1000)
