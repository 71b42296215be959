"""After a failure, and at the start: makes sure that a worker and Redis agree on what the worker holds."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Sequence

from toril import errors
from toril.engine.worker import ActiveJobs, FinishReply
from toril.jobs.outcome import Finish, TakenJob
from toril.worker import finish_codes
from toril.worker.attempt import Attempt, first_batch
from toril.worker.ends import Ends
from toril.worker.executor import Executor
from toril.worker.pipeline import MAX_BATCH, Pipeline
from toril.worker.registration import Registration
from toril.worker.reporter import Reporter
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.server_clock import ServerClock
from toril.worker.states import Course, Event
from toril.worker.wakeups import Wakeups

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
"""Pauses between attempts to get through double from first to longest: Redis's return is noticed in a second. Ends that
Redis refuses for a lasting reason are tried again after the longest pause."""


class Verdict(enum.Enum):
    """What a second try of a refused finish has shown."""

    RECORDED = "recorded"
    """Redis carried it out this time."""
    UNRECORDABLE = "unrecordable"
    """The reason is the job's own: Redis will never carry it out."""
    WAITS = "waits"
    """The reason is Redis or a key of the queue, which can be mended: all ends wait for that."""


async def try_alone(active: ActiveJobs, finish: Finish, problem: errors.RedisError) -> Verdict:
    """Send a finish once more, by itself. `problem`: why it was refused.

    Redis: reads the types of the queue's keys; then `finish_and_take`.
    """
    if finish_codes.is_outage(problem):
        return Verdict.WAITS
    try:
        if await active.wrong_key() is not None:
            return Verdict.WAITS
        # They may have been mended in this moment.
        await active.finish_and_take([finish], 0, finish.job.token)
    except errors.RedisError as again:
        return Verdict.WAITS if finish_codes.is_outage(again) else Verdict.UNRECORDABLE
    return Verdict.RECORDED


class GivenUp:
    """Jobs whose ends Redis cannot carry out. Until their locks run out they look as if we held them; to take them for
    ours would run them again and again."""

    def __init__(self, lock_seconds: float) -> None:
        self._keep_seconds = 2 * lock_seconds
        self._until: dict[tuple[str, str], float] = {}

    def add(self, job: TakenJob) -> None:
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[job.id, job.token] = now + self._keep_seconds

    def without(self, jobs: Sequence[TakenJob]) -> list[TakenJob]:
        """The jobs that are not given up."""
        return [job for job in jobs if (job.id, job.token) not in self._until]


class Recovery:
    """Takes back locks that ran out, records ends (again), and finds the jobs of a take whose reply was lost.

    In this order, so that no job runs twice. A take that the network delivers after that is known to no worker: its
    jobs stall, and the stalled check gives them back.
    """

    def __init__(
        self,
        active: ActiveJobs,
        executor: Executor,
        pipeline: Pipeline,
        wakeups: Wakeups,
        reporter: Reporter,
        ends: Ends,
        server_clock: ServerClock,
        upkeep: SchedulerUpkeep,
        registration: Registration,
        course: Course,
        *,
        wake: Callable[[], None],
        on_failure: Callable[[errors.RedisError], None],
    ) -> None:
        """Args:
        wake: lets the main loop go round.
        on_failure: called when Redis failed.
        """
        self._active = active
        self._executor = executor
        self._pipeline = pipeline
        self._wakeups = wakeups
        self._reporter = reporter
        self._ends = ends
        self._clock = server_clock
        self._upkeep = upkeep
        self._registration = registration
        self._course = course
        self._wake = wake
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._retry_at = 0.0
        self._given_up = GivenUp(active.taker.lock_ms / 1000)
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self.is_refused = False
        """Whether Redis refused the last try for a reason that lasts: what a call may have taken cannot be found."""

    async def run_once(self) -> None:
        """One try; then a pause if it did not work."""
        # Recovery works, and then the same fails again: a key of the wrong type, say.
        is_in_vain = self._wakeups.has_failed or self._pipeline.failures > 1
        if is_in_vain:
            await self._pause()
        try:
            await self._clock.sample()
            if not self._registration.is_done:
                await self._registration.run_once()
            await self.extend_locks()
            await self._record_all()
            if self._pipeline.take_is_unsure:
                await self._adopt()
        except errors.RedisError as problem:
            self.is_refused = finish_codes.is_lasting(problem)
            self._on_failure(problem)
            await self._pause()
            return
        self.is_refused = False
        if not is_in_vain:
            self._pause_seconds = FIRST_PAUSE_SECONDS
        self._course.apply(Event.RECOVERED)
        self._pipeline.expect_jobs()
        self._reporter.redis_works()
        await self.carry_schedulers_on()

    async def extend_locks(self) -> int:
        """Renew all locks now, and stop the jobs whose locks are lost. Returns how many those are."""
        # Skip jobs whose give-back was not acknowledged. They may be waiting again; the next worker starts them with
        # the same `ats`, so that our renewal would steal its lock.
        held = [run for run in self._pipeline.held if not run.may_be_back]
        lost_ids = await self._active.extend_locks([run.record for run in held])
        # A job that ended meanwhile has no lock any more and needs none.
        lost = [run for run in held if run.record.id in lost_ids and run.finish is None]
        for run in lost:
            self._ends.lost(run, "its lock was lost")
        self._executor.cancel(lost)
        return len(lost)

    async def carry_schedulers_on(self) -> None:
        """Make the next jobs of schedulers whose jobs were taken."""
        try:
            await self._upkeep.run_once()
        except errors.RedisError as problem:
            self._on_failure(problem)

    async def _adopt(self) -> None:
        pipeline = self._pipeline
        known = [run.record.id for run in pipeline.held]
        adopted = self._given_up.without(await self._active.adopt(pipeline.token_prefix, known))
        pipeline.start(adopted)
        self._upkeep.record_taken(adopted)
        pipeline.take_is_unsure = False

    async def _record_all(self) -> None:
        """Record what has ended. An end that Redis refuses for a lasting reason is set aside. Raises other failures."""
        pipeline = self._pipeline
        while pipeline.pending:
            if not self._course.state.is_recovering_singly:
                await self._record_batch()
                continue
            run = pipeline.pending.pop(0)
            try:
                await self._record_alone(run)
            except errors.RedisError as problem:
                if not finish_codes.is_lasting(problem):
                    pipeline.pending.insert(0, run)
                    raise
                pipeline.refused.append(run)
                self._report_refused(problem)

    async def _record_batch(self) -> None:
        """Record a part of what has ended, without taking. When that fails it is pending again; raises why."""
        pipeline = self._pipeline
        batch, pipeline.pending = first_batch(pipeline.pending, MAX_BATCH)
        finishes = [run.outcome for run in batch]
        try:
            reply = await self._active.finish_and_take(finishes, 0, pipeline.new_token())
        except errors.RedisError:
            for finish in finishes:
                finish.is_repeated = True
            pipeline.pending = batch + pipeline.pending
            raise
        self._land(batch, reply)

    async def _record_alone(self, run: Attempt) -> None:
        """Record one end, or give its job up when Redis will never carry it out. Raises why Redis did not record it."""
        finish = run.outcome
        try:
            reply = await self._active.finish_and_take([finish], 0, self._pipeline.new_token())
        except errors.RedisError as problem:
            if await try_alone(self._active, finish, problem) is not Verdict.UNRECORDABLE:
                finish.is_repeated = True
                raise
            # The others are not to wait for this one.
            self._ends.lost(run, str(problem))
            self._given_up.add(run.record)
        else:
            self._land([run], reply)

    def _land(self, batch: Sequence[Attempt], reply: FinishReply) -> None:
        self._pipeline.settle(batch, reply.codes)
        if reply.taken.rate_limit_ms:
            self._pipeline.record_taken(reply.taken, 0)

    @property
    def is_retry_due(self) -> bool:
        """Whether refused ends are to be tried again now."""
        return bool(self._pipeline.refused) and self._loop.time() >= self._retry_at

    async def retry_refused(self) -> None:
        """Try refused ends again, one end a call. Free slots take jobs meanwhile."""
        refused = self._pipeline.refused
        for run in tuple(refused):
            try:
                await self._record_alone(run)
            except errors.RedisError as problem:
                if not finish_codes.is_lasting(problem):
                    self._on_failure(problem)
                    return
                self._report_refused(problem)
            else:
                refused.remove(run)
        if not refused:
            self._reporter.accepted("ends")

    def _report_refused(self, problem: errors.RedisError) -> None:
        if self._loop.time() >= self._retry_at:
            self._retry_at = self._loop.time() + LONGEST_PAUSE_SECONDS
            self._loop.call_at(self._retry_at, self._wake)
        self._reporter.refused("ends", problem)
        self._reporter.redis_failed(problem)

    async def _pause(self) -> None:
        seconds, self._pause_seconds = self._pause_seconds, min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(seconds)
