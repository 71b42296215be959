"""The main loop of a worker: an idle worker blocks, a busy one records what is done and takes what fits.

The calls of a busy worker follow from one another without the loop (`pipeline`). The loop does the rest: it waits for
wake-ups (`wakeups`), recovers after failures (`recovery`), carries schedulers on, and ends when all is done. Its state
(`states`) says which of these it does now.
"""

from __future__ import annotations

import asyncio

from toril import errors
from toril.engine.redis.connection import BlockingConnection
from toril.engine.worker import ActiveJobs
from toril.errors import RedisReason
from toril.worker import finish_codes
from toril.worker.attempt import Attempt
from toril.worker.ends import Ends
from toril.worker.executor import Executor
from toril.worker.heartbeat import Heartbeat
from toril.worker.pipeline import Pipeline
from toril.worker.recovery import Recovery
from toril.worker.registration import Registration
from toril.worker.reporter import Reporter
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.server_clock import ServerClock
from toril.worker.states import Course, Event, State
from toril.worker.wakeups import Wakeups

TICK_SECONDS = 5.0
"""The loop goes round at least so often, to show that it can."""
BLOCKED_SECONDS = 1.0
"""A loop that could not go round for so long is reported: locks are not renewed meanwhile."""


class Fetcher:
    """Takes jobs, hands them to the executor, and records how they end."""

    def __init__(
        self,
        active: ActiveJobs,
        blocking: BlockingConnection,
        executor: Executor,
        reporter: Reporter,
        ends: Ends,
        heartbeat: Heartbeat,
        server_clock: ServerClock,
        upkeep: SchedulerUpkeep,
        registration: Registration,
        *,
        concurrency: int,
        idle_poll_seconds: float,
        max_rate_limit_wait_ms: int,
    ) -> None:
        self._active = active
        self._executor = executor
        self._reporter = reporter
        self._heartbeat = heartbeat
        self._upkeep = upkeep
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ticked = self._loop.time()
        self._blamed_until = 0.0
        self._course = Course()
        self._pipeline = Pipeline(
            active, executor, reporter, ends, upkeep, self._course,
            token_prefix=registration.who.token_prefix,
            concurrency=concurrency, max_rate_limit_wait_ms=max_rate_limit_wait_ms,
            wake=self._wake.set, on_failure=self.record_failure,
        )  # fmt: skip
        self._wakeups = Wakeups(
            active, blocking, self._pipeline, reporter, server_clock, self._course,
            idle_poll_seconds=idle_poll_seconds, wake=self._wake.set, on_failure=self.record_failure,
        )  # fmt: skip
        self._recovery = Recovery(
            active, executor, self._pipeline, self._wakeups, reporter, ends, server_clock, upkeep, registration,
            self._course, wake=self._wake.set, on_failure=self.record_failure,
        )  # fmt: skip

    @property
    def is_draining(self) -> bool:
        """Whether nothing is taken any more; `run` returns when all jobs have ended."""
        return self._course.state.is_draining

    @property
    def unrecorded(self) -> int:
        """How many jobs have ended without Redis knowing it."""
        return self._pipeline.unrecorded

    def stop(self) -> None:
        """Take nothing from now on; `run` returns when the running jobs have ended. May be called again."""
        self._course.apply(Event.STOPPED)
        self._wake.set()

    async def abandon(self, unwind_seconds: float) -> list[Attempt]:
        """Stop the running jobs and put them back into the queue, their attempts not charged. Returns them.

        Args:
            unwind_seconds: how long coroutines may clean up before their jobs are free for others.
        """
        runs = await self._executor.abandon(unwind_seconds)
        self._pipeline.give_back(runs)
        return runs

    def give_up(self) -> None:
        """End `run` also if Redis does not answer."""
        self._course.apply(Event.GAVE_UP)
        self._wake.set()

    def record_failure(self, problem: errors.RedisError) -> None:
        """Redis failed, here or in a helper of this worker: the loop recovers before it goes on."""
        is_refused = finish_codes.is_lasting(problem) or not finish_codes.is_outage(problem)
        self._course.apply(Event.REFUSED if is_refused else Event.FAILED)
        if problem.reason is not RedisReason.TIMEOUT or not self._stood_still():
            self._reporter.redis_failed(problem)
        self._wake.set()

    async def extend_locks(self) -> int:
        """Renew all locks now, and stop the jobs whose locks are lost. Returns how many those are."""
        return await self._recovery.extend_locks()

    async def run(self) -> None:
        """Work until drained. Raises what broke the worker."""
        ticker = asyncio.create_task(self._tick_loop(), name="toril tick")
        try:
            is_done = False
            while not is_done and self._course.state is not State.GIVING_UP:
                self._heartbeat.beat()
                self._wake.clear()
                if self._pipeline.broken is not None:
                    raise self._pipeline.broken
                self._pipeline.collect()
                is_done = await (self._recover() if self._course.state.is_recovering else self._work())
        finally:
            ticker.cancel()
            await self._wakeups.stop()

    async def _recover(self) -> bool:
        """One turn of the loop while what Redis has is not known. Returns whether the worker may leave."""
        if self._pipeline.in_flight:
            # These calls come back first, with an answer or without.
            await self._wake.wait()
        elif self._is_empty_handed:
            return True
        else:
            await self._recovery.run_once()
        return False

    async def _work(self) -> bool:
        """One turn of the loop: send what there is to send, then wait. Returns whether the worker may leave."""
        if self.is_draining or self._course.state is State.FLAGGED:
            await self._wakeups.stop()
        await self._wakeups.use_spare()
        if self._upkeep.is_due:
            await self._recovery.carry_schedulers_on()
        if self._recovery.is_retry_due:
            await self._recovery.retry_refused()
        if not self._active.connection.is_connected:
            # Recovery connects.
            self._course.apply(Event.FAILED)
        if self._course.state.is_recovering:
            return False
        self._pipeline.send_all()
        if self._is_drained:
            return True
        self._wakeups.begin()
        await self._wake.wait()
        return False

    @property
    def _is_drained(self) -> bool:
        """Whether all is done; a run may have ended since `collect` was called."""
        pipeline, executor = self._pipeline, self._executor
        is_busy = pipeline.in_flight or pipeline.held or executor.running or executor.is_abandoning
        return self.is_draining and not is_busy

    @property
    def _is_empty_handed(self) -> bool:
        """Whether a draining worker holds nothing that Redis must be told of, and that it could tell."""
        is_unsure = self._pipeline.take_is_unsure and not self._recovery.is_refused
        return self.is_draining and not (is_unsure or self._pipeline.held or self._executor.is_abandoning)

    def _stood_still(self) -> bool:
        """Whether the event loop itself has just stood still: then a late answer says nothing of Redis."""
        now = self._loop.time()
        return now - self._ticked > TICK_SECONDS + BLOCKED_SECONDS or now < self._blamed_until

    async def _tick_loop(self) -> None:
        while True:
            self._ticked = self._loop.time()
            await asyncio.sleep(TICK_SECONDS)
            late_seconds = self._loop.time() - self._ticked - TICK_SECONDS
            if late_seconds > BLOCKED_SECONDS:
                self._blamed_until = self._loop.time() + BLOCKED_SECONDS
                self._reporter.loop_was_blocked(late_seconds)
            self._wake.set()
