"""The main loop of a worker: each call to Redis ends what is done and takes what fits; an idle worker blocks.

Jobs that end while calls are under way ride on the next one, so that a busy worker's calls carry many jobs, and none
waits for a timer. A busy worker's calls follow from one another without the loop, which sees to all else. After any
failure the loop first makes sure of what it has (`_recover`), then goes on.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from typing import Any

from toril import errors
from toril.engine.redis.connection import BlockingConnection, Call
from toril.engine.worker import ActiveJobs, FinishReply, Taken, count_of_such
from toril.jobs.outcome import Finish, TakenJob
from toril.worker import finish_codes
from toril.worker.attempt import Run, first_batch
from toril.worker.executor import Executor
from toril.worker.heartbeat import Heartbeat
from toril.worker.in_flight_call import InFlightCall
from toril.worker.reporter import Reporter
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.server_clock import ServerClock

MAX_BATCH = 100
"""Jobs ended or taken by one call: enough to make the call's cost vanish, few enough not to hold up Redis."""
FLIGHTS = 2
"""Calls under way at a time: Redis works on one while the jobs of the other run. They share the slots."""
LEAST_SHARE = 5
"""With fewer slots for each there is one call at a time: what a call costs by itself would outweigh the other's run."""
MAX_BLOCK_SECONDS = 10.0
"""Longest wait for a wake-up, as BullMQ's."""
TICK_SECONDS = 5.0
"""The loop goes round at least so often, to show that it can."""
BLOCKED_SECONDS = 1.0
"""A loop that could not go round for so long is told of: locks are not renewed meanwhile."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
"""Pauses between attempts to get through double from first to longest: Redis's return is noticed in a second."""


class Fetcher:
    """Takes jobs, hands them to the executor, and records how they end."""

    def __init__(
        self,
        active: ActiveJobs,
        blocking: BlockingConnection,
        executor: Executor,
        reporter: Reporter,
        heartbeat: Heartbeat,
        server_clock: ServerClock,
        upkeep: SchedulerUpkeep,
        *,
        concurrency: int,
        idle_poll_seconds: float,
        max_rate_limit_wait_ms: int,
    ) -> None:
        self.is_draining = False
        """Nothing is taken any more; the loop ends when all jobs have."""
        self._active = active
        self._blocking = blocking
        self._executor = executor
        self._reporter = reporter
        self._heartbeat = heartbeat
        self._concurrency = concurrency
        self._idle_poll_seconds = idle_poll_seconds
        self._max_rate_limit_wait_ms = max_rate_limit_wait_ms
        self._wake = asyncio.Event()
        executor.on_ended = self._pump
        executor.on_late = self._give_back
        executor.on_broken = self._break
        self._loop = asyncio.get_running_loop()
        self._clock = server_clock
        self._upkeep = upkeep
        self._token_prefix = f"{active.taker.worker_name}:{os.urandom(16).hex()}:"
        self._sure_seconds = active.taker.lock_ms / 2000
        self._takes = 0
        self._flights_at_once = FLIGHTS if concurrency >= FLIGHTS * LEAST_SHARE else 1
        self._take_at_most = self._batch = min(MAX_BATCH, -(-concurrency // self._flights_at_once))
        self._flights: list[InFlightCall] = []
        self._last_was_full = False
        self._has_schedulers_to_carry_on = False
        self._broken: BaseException | None = None  # ends the worker: it would wait for ever for what was lost there
        self._pending: list[Run] = []
        self._look_now = True
        self._look_again = False  # a wake-up came while calls were under way, whose answers may be older
        self._limited_until = 0.0
        self._next_due_ms: float = 0
        self._waiting: asyncio.Task[float | None] | None = None
        self._wait_failed = False
        self._call_failed = self._call_failed_again = False
        self._spare_token: float | None = None
        self._needs_recovery = True
        self._take_is_unsure = False
        self._singly = False
        self._given_up = finish_codes.GivenUp(active.taker.lock_ms / 1000)
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._is_abandoning = False
        self._gave_up = False

    # ---- from outside

    def stop(self) -> None:
        """Take nothing from now on; `run` returns when the running jobs have ended. May be called again."""
        self.is_draining = True
        self._wake.set()

    async def abandon(self, unwind_seconds: float) -> list[Run]:
        """Stop the running jobs and put them back into the queue, their attempts not charged. Returns them.

        Args:
            unwind_seconds: how long coroutines may clean up before their jobs are free for others.
        """
        self._is_abandoning = True
        try:
            runs = await self._executor.abandon(unwind_seconds)
            self._give_back(runs)
        finally:
            self._is_abandoning = False
        return runs

    def give_up(self) -> None:
        """End `run` also if Redis does not answer."""
        self._gave_up = True
        self._wake.set()

    def note_failure(self, problem: errors.RedisError) -> None:
        """Redis failed, here or in a helper of this worker: the loop makes sure of what it holds before it goes on."""
        self._needs_recovery = True
        self._singly = self._singly or not finish_codes.is_outage(problem)
        self._reporter.redis_failed(problem)
        self._wake.set()

    @property
    def unrecorded(self) -> int:
        """How many jobs have ended without Redis knowing it."""
        return len(self._pending) + sum(len(flight.batch) for flight in self._flights)

    @property
    def held(self) -> list[Run]:
        """The runs whose locks are to be kept: running, or ended and not recorded yet."""
        return self._executor.held + self._pending

    async def extend_locks(self) -> int:
        """Renew all locks now, and stop the jobs whose locks are lost. Returns how many those are."""
        # Whoever has taken a job since that may be back starts it under the same number: its lock would be taken away.
        held = [run for run in self.held if not run.may_be_back]
        lost_ids = await self._active.extend_locks([run.record for run in held])
        # A job that ended meanwhile has no lock any more and needs none.
        lost = [run for run in held if run.record.id in lost_ids and run.finish is None]
        for run in lost:
            self._reporter.lost(run, "its lock was lost")
        self._executor.cancel(lost)
        return len(lost)

    async def run(self) -> None:
        """Work until drained."""
        ticker = asyncio.create_task(self._tick_loop(), name="toril tick")
        try:
            while not self._gave_up:
                self._heartbeat.beat()
                self._wake.clear()
                if self._broken is not None:
                    raise self._broken
                self._pending += self._executor.take_ended()
                if self._needs_recovery:
                    if self._flights:
                        # What is under way comes back first, with an answer or without.
                        await self._wake.wait()
                        continue
                    if self._is_empty_handed:
                        break
                    await self._recover()
                    continue
                if self.is_draining:
                    await self._stop_waiting()
                if self._spare_token is not None:
                    await self._use_token(self._spare_token)
                if self._has_schedulers_to_carry_on:
                    await self._carry_schedulers_on()
                if not self._active.connection.is_connected:
                    # Recovery connects.
                    self._needs_recovery = True
                    continue
                self._send_all()
                if self._is_drained:
                    break
                await self._wait()
        finally:
            ticker.cancel()
            await self._stop_waiting()

    @property
    def _is_drained(self) -> bool:
        """Whether all is done; a run may have ended since `take_ended` was called."""
        executor = self._executor
        return self.is_draining and not (
            self._flights or self._pending or self._is_abandoning or executor.running or executor.held
        )

    @property
    def _is_empty_handed(self) -> bool:
        """Whether a draining worker holds nothing that Redis must be told of."""
        return self.is_draining and not (self._take_is_unsure or self._is_abandoning or self.held)

    async def _tick_loop(self) -> None:
        while True:
            began = self._loop.time()
            await asyncio.sleep(TICK_SECONDS)
            late_seconds = self._loop.time() - began - TICK_SECONDS
            if late_seconds > BLOCKED_SECONDS:
                self._reporter.loop_was_blocked(late_seconds)
            self._wake.set()

    # ---- one call

    @property
    def _free(self) -> int:
        return max(0, self._concurrency - len(self._executor.running) - sum(flight.count for flight in self._flights))

    @property
    def _is_limited(self) -> bool:
        return self._limited_until > self._loop.time()

    def _count_to_take(self) -> int:
        if self.is_draining or self._is_limited or not (self._look_now or self._pending):
            return 0
        if self._flights and not self._pending and not self._last_was_full:
            return 0
        room = self._executor.room - sum(flight.count for flight in self._flights)
        return max(0, min(room, self._take_at_most))

    def _new_token(self) -> str:
        self._takes += 1
        return f"{self._token_prefix}{self._takes}"

    def _pump(self) -> None:
        """Send what there is to send, without the main loop; what is no plain sending is left to that."""
        if self._needs_recovery or not self._active.connection.is_connected:
            self._wake.set()
            return
        try:
            self._send_all()
        except BaseException as problem:
            self._broken = problem
        if self._broken or not self._flights:
            self._wake.set()

    def _break(self, problem: Exception) -> None:
        self._broken = problem
        self._wake.set()

    def _send_all(self) -> None:
        self._pending += self._executor.take_ended()
        while len(self._flights) < self._flights_at_once:
            count = self._count_to_take()
            if not self._pending and not count:
                break
            batch, self._pending = first_batch(self._pending, MAX_BATCH)
            self._send(batch, count)

    def _send(self, batch: list[Run], count: int) -> None:
        self._look_again = self._look_again and not count
        finishes = [run.outcome for run in batch]
        self._launch(batch, count, self._active.finishing_and_taking(finishes, count, self._new_token()))

    def _launch(self, batch: list[Run], count: int, call: Call[FinishReply], *, by_source: bool = False) -> None:
        flight = InFlightCall(batch, count, call, self._loop.time(), self._landed)
        self._active.connection.send(call, flight, by_source=by_source)
        self._flights.append(flight)

    def _landed(self, flight: InFlightCall, reply: Any, problem: Exception | None) -> None:
        """A call was answered, or never will be."""
        self._flights.remove(flight)
        try:
            if problem is None:
                self._land(flight, flight.call.parse(reply))
            else:
                self._failed(flight, problem)
        except BaseException as unforeseen:
            self._broken = unforeseen
        self._pump()

    def _failed(self, flight: InFlightCall, problem: Exception) -> None:
        error = self._active.connection.read_problem(problem)
        if error is not None:
            self._crashed(flight, error)
        elif self._active.connection.is_connected:
            # Redis does not know the script, and has done nothing.
            self._launch(flight.batch, flight.count, flight.call, by_source=True)
        else:
            self._pending = flight.batch + self._pending
            self._needs_recovery = True

    def _land(self, flight: InFlightCall, reply: FinishReply) -> None:
        self._call_failed = self._call_failed_again = False
        self._settle(flight.batch, reply.codes)
        if reply.taken.jobs and self._loop.time() - flight.sent_at > self._sure_seconds:
            # We were asleep: their locks may be over, and others have them. Recovery finds those still ours.
            self._take_is_unsure = self._needs_recovery = True
        elif flight.count or reply.taken.rate_limit_ms:
            self._note_taken(reply.taken, flight.count)
            if self._upkeep.note(reply.taken.jobs):
                self._has_schedulers_to_carry_on = True
                self._wake.set()

    def _crashed(self, flight: InFlightCall, problem: errors.RedisError) -> None:
        """Whatever the error says, it may come from the middle of the script: all of the call is pending again."""
        if not self._needs_recovery:
            self._call_failed, self._call_failed_again = True, self._call_failed
        for run in flight.batch:
            run.outcome.is_repeated = True
        self._take_is_unsure = self._take_is_unsure or flight.count > 0
        self._pending = flight.batch + self._pending
        self.note_failure(problem)

    def _settle(self, batch: Sequence[Run], codes: Sequence[int]) -> None:
        """Tell what became of the finishes; what was refused and can be mended is pending again."""
        if batch and min(codes) >= 0:
            self._reporter.finished(batch)
            return
        finished = []
        for run, code in zip(batch, codes, strict=True):
            if code >= 0 or finish_codes.was_carried_out(run.outcome, code):
                finished.append(run)
            elif code in finish_codes.BY_CHILDREN and run.outcome.kind != "failed":
                run.finish = finish_codes.failed_by_children(run, code)
                self._pending.append(run)
            elif code == finish_codes.NO_LOCK and not run.is_retaken:
                run.is_retaken = True
                self._pending.append(run)
                self._needs_recovery = True
            else:
                self._reporter.lost(run, finish_codes.why_lost(code))
        if finished:
            self._reporter.finished(finished)

    def _note_taken(self, taken: Taken, count: int) -> None:
        # What is given back would stay counted.
        self._executor.takes_ahead = not taken.is_counted
        self._start(taken.jobs)
        self._last_was_full = len(taken.jobs) >= count
        self._look_now = self._last_was_full or self._look_again
        self._next_due_ms = taken.next_due_ms
        if taken.rate_limit_ms > 0:
            seconds = min(taken.rate_limit_ms, self._max_rate_limit_wait_ms) / 1000
            self._limited_until = self._loop.time() + seconds
            self._look_now = True
            self._loop.call_later(seconds + 0.001, self._wake.set)

    async def _carry_schedulers_on(self) -> None:
        self._has_schedulers_to_carry_on = False
        try:
            await self._upkeep.run_once()
        except errors.RedisError as problem:
            self.note_failure(problem)

    def _start(self, jobs: Sequence[TakenJob]) -> None:
        if jobs:
            self._take_at_most = min(self._batch, count_of_such(jobs))
        if self.is_draining:
            # Taken by a call that was under way when we were told to stop.
            self._give_back([self._executor.prepare(job) for job in jobs])
        else:
            self._executor.start(jobs)

    def _give_back(self, runs: Sequence[Run]) -> None:
        for run in runs:
            run.finish = Finish.requeue(run.record, has_started=run.started > 0)
        self._pending += runs
        self._wake.set()

    # ---- waiting

    async def _wait(self) -> None:
        """Wait until there is something to look at; with a free slot also for Redis's wake-up."""
        if self._waiting is None and self._free and not (self._flights or self._is_limited or self.is_draining):
            task = asyncio.create_task(
                self._blocking.wait_marker(self._active.keys.marker, self._block_seconds()), name="toril wait"
            )
            task.add_done_callback(self._waited)
            self._waiting = task
        await self._wake.wait()

    def _block_seconds(self) -> float:
        if not self._next_due_ms:
            return min(self._idle_poll_seconds, MAX_BLOCK_SECONDS)
        seconds = math.ceil(self._next_due_ms - self._clock.now_ms()) / 1000
        return min(max(seconds, 0.001), MAX_BLOCK_SECONDS)

    def _waited(self, task: asyncio.Task[float | None]) -> None:
        self._waiting = None
        if task.cancelled():
            return
        problem = task.exception()
        if problem is None:
            self._wait_failed = False
            score = task.result()
            if score is None or (score <= self._clock.now_ms() and self._free and not self.is_draining):
                self._look()
            else:
                self._spare_token = score
                self._wake.set()
            self._pump()
        elif isinstance(problem, errors.RedisError):
            self._wait_failed = True
            self.note_failure(problem)
        else:
            raise problem

    def _look(self) -> None:
        self._look_now, self._look_again = True, bool(self._flights)

    async def _use_token(self, score: float) -> None:
        """Act on a wake-up, or pass it on: it was meant for somebody with a free slot."""
        self._spare_token = None
        if self.is_draining or not self._free:
            try:
                await self._active.wake(score)
            except errors.RedisError as problem:
                self.note_failure(problem)
        elif score <= self._clock.now_ms() or self._flights:
            self._look()
        else:
            self._next_due_ms = min(self._next_due_ms or score, score)

    async def _stop_waiting(self) -> None:
        """End the wait for a wake-up. One that was handed out in this moment is passed on."""
        task = self._waiting
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._spare_token = 0

    # ---- failures

    async def _recover(self) -> None:
        """Make sure of what we hold, after a failure and at the start; one try, then a pause if it did not work.

        Locks that ran out are taken back, ends are recorded (again), and jobs that a call took whose reply was lost are
        found: in this order, so that nothing is run twice. A take that the network delivers later still is nobody's:
        its jobs stall, and are given back.
        """
        # Recovery works, and then the same fails again: a key of the wrong type, say.
        is_in_vain = self._wait_failed or self._call_failed_again
        if is_in_vain:
            await self._pause()
        try:
            await self._clock.sample()
            await self.extend_locks()
            while self._pending:
                await self._record_some()
            if self._take_is_unsure:
                known = [run.record.id for run in self.held]
                adopted = self._given_up.without(await self._active.adopt(self._token_prefix, known))
                self._start(adopted)
                self._upkeep.note(adopted)
                self._take_is_unsure = False
        except errors.RedisError as problem:
            self.note_failure(problem)
            await self._pause()
            return
        if not is_in_vain:
            self._pause_seconds = FIRST_PAUSE_SECONDS
        self._needs_recovery = False
        self._singly = False
        self._look_now = True
        self._reporter.redis_works()
        await self._carry_schedulers_on()

    async def _record_some(self) -> None:
        """Record a part of what has ended, without taking. When that fails it is pending again; raises why."""
        batch, self._pending = first_batch(self._pending, 1 if self._singly else MAX_BATCH)
        try:
            reply = await self._active.finish_and_take([run.outcome for run in batch], 0, self._new_token())
        except errors.RedisError as problem:
            if self._singly and await finish_codes.is_the_jobs_own(self._active, batch[0].outcome, problem):
                # Redis cannot carry out this one and never will; the others are not to wait for it.
                self._reporter.lost(batch[0], str(problem))
                self._given_up.add(batch[0].record)
                return
            for run in batch:
                run.outcome.is_repeated = True
            self._pending = batch + self._pending
            raise
        self._settle(batch, reply.codes)
        if reply.taken.rate_limit_ms:
            self._note_taken(reply.taken, 0)

    async def _pause(self) -> None:
        seconds, self._pause_seconds = self._pause_seconds, min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(seconds)
