"""The demo: adds jobs as planned, waits until each has ended and the workers are gone, and accounts for every one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from toril import clock, errors
from toril.cli.dev import demo_plan
from toril.cli.dev.demo_plan import Outcome, PlannedJob, ScheduleSummary
from toril.cli.dev.schedules import ScheduleRun
from toril.cli.dev.session import QueueRun, Session
from toril.cli.dev.table import Progress
from toril.engine import events
from toril.engine.getters import Inspector
from toril.engine.keys import QueueKeys
from toril.engine.producer import Producer
from toril.engine.redis.connection import BlockingConnection
from toril.jobs.job import JobState, NewJob
from toril.jobs.options import JobOptions
from toril.specs.jobqueue import JobQueueSpec

MAX_JOBS = 1000
"""Largest number of jobs: with more, the manifests' retention would remove jobs before the demo has counted them."""
QUICK_MS = 3000
"""Cooldown and down window of the demo: short, so that the workers go back to 0 while one watches."""
STUCK_SECONDS = 60.0
"""The demo fails when no job, or not the last worker, has ended for so long."""
_POLL_SECONDS = 0.1
_READS_AT_ONCE = 100


def quickened(spec: JobQueueSpec) -> JobQueueSpec:
    """The same queue with the demo's shorter times for scaling down."""
    scaling = spec.scaling
    shorter = dataclasses.replace(
        scaling,
        cooldown_ms=min(scaling.cooldown_ms, QUICK_MS),
        down_window_ms=min(scaling.down_window_ms, QUICK_MS),
    )
    return dataclasses.replace(spec, scaling=shorter)


def check_manifests(specs: Sequence[JobQueueSpec]) -> None:
    """Check that the demo can run on these queues.

    Raises:
        SettingsError: a queue is missing, or its jobs have too few attempts for the planned failures.
    """
    by_name = {spec.queue_name: spec for spec in specs}
    for name in demo_plan.QUEUES:
        if name not in by_name:
            found = ", ".join(sorted(by_name))
            raise errors.SettingsError(f"--demo needs a JobQueue for the queue {name}; found: {found}")
        if int(by_name[name].default_job_options.get("attempts", 1)) < demo_plan.MOST_ATTEMPTS:
            raise errors.SettingsError(
                f"--demo plans failures: JobQueue/{by_name[name].name} needs spec.defaultJobOptions.attempts of at "
                f"least {demo_plan.MOST_ATTEMPTS}"
            )


@dataclass(slots=True)
class QueueDemo:
    """One queue of the demo, with the ends of its jobs by the queue's events."""

    run: QueueRun
    planned: Mapping[str, PlannedJob] = field(default_factory=dict)
    """By job id."""
    ends: Counter[str] = field(default_factory=Counter)
    """Job id → number of events of its end."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        return sum(job_id in self.ends for job_id in self.planned)

    async def listen(self, blocking: BlockingConnection, position: str) -> None:
        """Count the events of ends until cancelled; a broken connection is made anew."""
        while True:
            try:
                async for event in events.read_events(blocking, self.run.keys, position):
                    position = event.id
                    if event.job_id is not None and event.name in ("completed", "failed"):
                        self.ends[event.job_id] += 1
            except errors.RedisError:
                await asyncio.sleep(_POLL_SECONDS)


class Demo:
    """One run of the demo in a session that scales its queues."""

    def __init__(self, session: Session, jobs: int) -> None:
        self._session = session
        self._plan = demo_plan.build_plan(jobs)
        self._total = jobs
        self._started_ms = clock.monotonic_ms()
        by_name = {run.spec.queue_name: run for run in session.runs}
        self.queues = [QueueDemo(by_name[name]) for name in demo_plan.QUEUES]
        self._schedules: list[ScheduleSummary] = []

    async def run(self) -> list[str]:
        """Run the demo.

        Returns:
            One line for each job that did not go as planned; empty when all did.
        """
        async with self._listening():
            for queue in self.queues:
                await self._add(queue)
            problems = await self._wait_ended()
        for run in self._session.schedules.runs:
            if run.run_id is not None:
                self._schedules.append(await self._wait_schedule(run, run.run_id))
        problems += [problem for each in self._schedules if (problem := each.problem) is not None]
        problems += await self._wait_scaled_down()
        self._session.show()
        for queue in self.queues:
            queue.outcomes = await self._read_outcomes(queue)
            for job_id, planned in queue.planned.items():
                problems += demo_plan.differences(planned, job_id, queue.outcomes[job_id], queue.ends[job_id])
        return problems

    def summary(self) -> demo_plan.Summary:
        """The report, after `run`."""
        return demo_plan.Summary(
            seconds=(clock.monotonic_ms() - self._started_ms) / 1000,
            queues=[
                demo_plan.QueueSummary(
                    queue=queue.run.spec.queue_name,
                    planned=queue.planned,
                    outcomes=queue.outcomes,
                    scaling=queue.run.scaling,
                )
                for queue in self.queues
            ],
            schedules=self._schedules,
        )

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Count every end from now on."""
        connection = self._session.connection
        position = await events.position_now(connection)
        blockings = [BlockingConnection(connection.settings) for _ in self.queues]
        listeners = [
            asyncio.create_task(queue.listen(blocking, position), name=f"listen {queue.run.spec.queue_name}")
            for queue, blocking in zip(self.queues, blockings, strict=True)
        ]
        try:
            yield
        finally:
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)
            for blocking in blockings:
                await blocking.close()

    async def _add(self, queue: QueueDemo) -> None:
        spec = queue.run.spec
        planned = [job for job in self._plan if job.queue == spec.queue_name]
        new = [
            NewJob.create(job.name, job.data, JobOptions.from_bullmq({**spec.default_job_options, **job.options}))
            for job in planned
        ]
        ids = await Producer(self._session.connection, queue.run.keys).add(new)
        queue.planned = dict(zip(ids, planned, strict=True))

    async def _wait_ended(self) -> list[str]:
        """Wait until every job has ended. Returns a line when that takes too long."""
        done, last_ms = -1, clock.monotonic_ms()
        while done < self._total:
            now = sum(queue.ended for queue in self.queues)
            if now != done:
                done, last_ms = now, clock.monotonic_ms()
                self._session.progress = Progress(done, self._total, f"{done} of {self._total} jobs have ended")
            elif clock.monotonic_ms() - last_ms > STUCK_SECONDS * 1000:
                return [f"{self._total - done} jobs have not ended, and none has for {STUCK_SECONDS:g} s"]
            else:
                await asyncio.sleep(_POLL_SECONDS)
        return []

    async def _wait_schedule(self, run: ScheduleRun, job_id: str) -> ScheduleSummary:
        """Wait until the first run of a schedule has ended."""
        reader = Inspector(self._session.connection, QueueKeys(run.queue.queue_name, run.queue.prefix))
        deadline_ms = clock.monotonic_ms() + STUCK_SECONDS * 1000
        state = await reader.state(job_id)
        while state not in (JobState.COMPLETED, JobState.FAILED) and clock.monotonic_ms() < deadline_ms:
            await asyncio.sleep(_POLL_SECONDS)
            state = await reader.state(job_id)
        next_slot = "none" if run.next_slot_ms is None else _as_text(run.next_slot_ms)
        return ScheduleSummary(name=run.spec.name, job_id=job_id, state=state, next_slot=next_slot)

    async def _wait_scaled_down(self) -> list[str]:
        """Wait until no queue has workers, as the scaler decides it. Returns a line when that takes too long."""
        lowest = sum(queue.run.spec.scaling.min_replicas for queue in self.queues)
        text = f"{self._total} of {self._total} jobs have ended, the workers are leaving"
        self._session.progress = Progress(self._total, self._total, text)
        deadline_ms = clock.monotonic_ms() + STUCK_SECONDS * 1000
        while (left := sum(queue.run.fleet.running for queue in self.queues)) > lowest:
            if clock.monotonic_ms() > deadline_ms:
                return [f"{left} workers are still there after {STUCK_SECONDS:g} s without work"]
            await asyncio.sleep(_POLL_SECONDS)
        return []

    async def _read_outcomes(self, queue: QueueDemo) -> dict[str, Outcome]:
        reader = Inspector(self._session.connection, queue.run.keys)

        async def read(job_id: str) -> Outcome:
            state, job = await reader.state_and_job(job_id)
            return Outcome(job, state, await reader.logs(job_id))

        ids = list(queue.planned)
        outcomes: dict[str, Outcome] = {}
        for first in range(0, len(ids), _READS_AT_ONCE):
            part = ids[first : first + _READS_AT_ONCE]
            outcomes.update(zip(part, await asyncio.gather(*map(read, part)), strict=True))
        return outcomes


def _as_text(moment_ms: int) -> str:
    return datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
