"""Waits for Redis to say that there is work: BullMQ's `marker`, which hands each wake-up to one worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from toril import errors
from toril.engine.redis.connection import BlockingConnection
from toril.engine.worker import ActiveJobs
from toril.worker.pipeline import Pipeline
from toril.worker.reporter import Reporter
from toril.worker.server_clock import ServerClock
from toril.worker.states import Course, State

MAX_BLOCK_SECONDS = 10.0
"""Longest wait for a wake-up, as BullMQ's."""


class Wakeups:
    """The wait for a wake-up, and what is done with one."""

    def __init__(
        self,
        active: ActiveJobs,
        blocking: BlockingConnection,
        pipeline: Pipeline,
        reporter: Reporter,
        server_clock: ServerClock,
        course: Course,
        *,
        idle_poll_seconds: float,
        wake: Callable[[], None],
        on_failure: Callable[[errors.RedisError], None],
    ) -> None:
        """Args:
        wake: lets the main loop go round.
        on_failure: called when the wait failed or was refused.
        """
        self.has_failed = False
        """Whether the last wait failed."""
        self._active = active
        self._blocking = blocking
        self._pipeline = pipeline
        self._reporter = reporter
        self._clock = server_clock
        self._course = course
        self._idle_poll_seconds = idle_poll_seconds
        self._wake = wake
        self._on_failure = on_failure
        self._waiting: asyncio.Task[float | None] | None = None
        self._spare: float | None = None

    def begin(self) -> None:
        """Wait for a wake-up beside the main loop, when a slot is free and no call is under way."""
        pipeline = self._pipeline
        is_running = self._course.state is State.RUNNING
        if is_running and self._waiting is None and pipeline.free and not pipeline.in_flight:
            wait = self._blocking.wait_marker(self._active.keys.marker, self._block_seconds())
            self._waiting = asyncio.create_task(wait, name="toril wait")
            self._waiting.add_done_callback(self._waited)

    async def stop(self) -> None:
        """End the wait. A wake-up that was handed out in this moment is passed on."""
        task = self._waiting
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._spare = 0

    async def use_spare(self) -> None:
        """Act on a wake-up that did not fit, or pass it on: it was meant for a worker with a free slot."""
        if self._spare is None:
            return
        score, self._spare = self._spare, None
        pipeline = self._pipeline
        if self._course.state.is_draining or not pipeline.free:
            try:
                await self._active.wake()
            except errors.RedisError as problem:
                self._on_failure(problem)
        elif self._course.state is State.FLAGGED:
            # The next take brings nothing, and puts the wake-up back if a job can run.
            pipeline.end_pause()
        elif score <= self._clock.now_ms() or pipeline.in_flight:
            pipeline.record_wakeup()
        else:
            pipeline.next_due_ms = min(pipeline.next_due_ms or score, score)

    def _block_seconds(self) -> float:
        due_ms = self._pipeline.next_due_ms
        if not due_ms:
            return min(self._idle_poll_seconds, MAX_BLOCK_SECONDS)
        seconds = math.ceil(due_ms - self._clock.now_ms()) / 1000
        return min(max(seconds, 0.001), MAX_BLOCK_SECONDS)

    def _waited(self, task: asyncio.Task[float | None]) -> None:
        self._waiting = None
        if task.cancelled():
            return
        problem = task.exception()
        if problem is None:
            self.has_failed = False
            self._reporter.accepted("waits")
            self._act_on(task.result())
            self._pipeline.pump()
        elif isinstance(problem, errors.RedisError):
            self.has_failed = True
            self._reporter.refused("waits", problem)
            self._on_failure(problem)
        else:
            raise problem

    def _act_on(self, score: float | None) -> None:
        """`score`: of the wake-up, 0 = look now, else when to look, Unix milliseconds; None = none came in time."""
        is_due = score is None or score <= self._clock.now_ms()
        if score is None or (is_due and self._pipeline.free and not self._course.state.is_draining):
            self._pipeline.record_wakeup()
        else:
            self._spare = score
            self._wake()
