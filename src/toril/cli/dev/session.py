"""The loop of local mode: reads all queues, asks the pure scaler, scales the fleets, updates the table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from toril import clock, errors, periodic
from toril.cli.dev import stored_settings
from toril.cli.dev.fleet import ProcessFleet
from toril.cli.dev.schedules import Schedules
from toril.cli.dev.table import Display, Progress, QueueRow
from toril.engine import getters
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection
from toril.jobs.signals import QueueSignals
from toril.scaling import decide as scaler
from toril.scaling.policy import Unknown
from toril.specs.cron_job_schedule import CronJobScheduleSpec
from toril.specs.jobqueue import JobQueueSpec, WorkerMode

TURN_SECONDS = 0.25
"""Pause between two readings of Redis: one script call for all queues, often enough for a table that is watched."""
DRAIN_MARGIN_SECONDS = 5.0
"""A worker ends by itself when its drain time is over; it is killed after so much more."""


@dataclass(slots=True, kw_only=True)
class QueueRun:
    """One queue of the session: its spec, its workers, and its latest reading."""

    spec: JobQueueSpec
    keys: QueueKeys
    fleet: ProcessFleet
    history: scaler.History = field(default_factory=scaler.History)
    signal: QueueSignals | Unknown = field(default_factory=lambda: Unknown("not read yet"))
    reason: str = ""
    why: str = ""
    scaling: list[int] = field(default_factory=lambda: [0])
    """The wanted replicas, one entry a change: 0, 4, 1, 0."""

    @property
    def row(self) -> QueueRow:
        seen = self.signal if isinstance(self.signal, QueueSignals) else None
        return QueueRow(
            queue=self.spec.queue_name,
            waiting=None if seen is None else seen.waiting + seen.prioritized,
            active=None if seen is None else seen.active,
            delayed=None if seen is None else seen.delayed,
            completed=None if seen is None else seen.completed,
            failed=None if seen is None else seen.failed,
            ready=self.fleet.ready,
            wanted=self.fleet.wanted,
            draining=self.fleet.draining,
            reason=self.reason,
            why=self.why,
        )

    async def decide(self, now_ms: int) -> None:
        """Scale to what the scaler decides by the latest reading."""
        if self.spec.worker.mode is WorkerMode.NONE:
            self.reason, self.why = "Observed", "worker.mode is None: the workers are yours"
            return
        state = self.fleet.observe()
        decision, self.history = scaler.decide(self.spec.scaling, self.signal, self.history, state, now_ms)
        self.reason, self.why = decision.reason, decision.message
        await self.scale(decision.replicas)

    async def scale(self, replicas: int) -> None:
        if replicas != self.scaling[-1]:
            self.scaling.append(replicas)
        await self.fleet.scale(replicas)


class Session:
    """All queues of one `toril dev`."""

    def __init__(
        self,
        specs: Sequence[JobQueueSpec],
        environments: Sequence[Mapping[str, str]],
        connection: AsyncConnection,
        display: Display,
        *,
        schedules: Sequence[CronJobScheduleSpec] = (),
        shows_output: bool,
    ) -> None:
        """Args:
        environments: of each queue's workers, in the same order.
        shows_output: whether the workers' output is shown. A crash always is.
        """
        self.connection = connection
        self.progress: Progress | None = None
        """Shown below the table; the demo sets it."""
        self.schedules = Schedules(schedules, specs, connection)
        self._display = display
        self._shows_output = shows_output
        self.runs = [
            QueueRun(
                spec=spec,
                keys=QueueKeys(spec.queue_name, spec.prefix),
                fleet=ProcessFleet(spec.name, variables, on_line=self._heard, on_crash=self._crashed),
            )
            for spec, variables in zip(specs, environments, strict=True)
        ]

    async def run(self) -> None:
        """Run until cancelled. Raises RedisError: Redis refuses the first reading."""
        for run in self.runs:
            await stored_settings.write(self.connection, run.spec, run.keys)
        await self.schedules.start()
        await periodic.repeat(periodic.Pace(TURN_SECONDS), self.run_once)

    async def run_once(self) -> None:
        """Create due jobs of schedules, read all queues, scale the fleets, show the table."""
        await self.schedules.turn()
        await self._look()
        for run in self.runs:
            await run.decide(clock.monotonic_ms())
        self.show()

    async def drain(self) -> None:
        """Stop all workers and wait for their jobs; kill those that take longer than their drain time."""
        longest = max(run.spec.worker.drain_seconds for run in self.runs)
        deadline_ms = clock.monotonic_ms() + round(1000 * (longest + DRAIN_MARGIN_SECONDS))
        for run in self.runs:
            run.reason, run.why = "Stopping", "running jobs finish, then the workers end"
            await run.scale(0)
        while self.is_working and clock.monotonic_ms() < deadline_ms:
            await self._look()
            self.show()
            await asyncio.sleep(TURN_SECONDS / 5)
        for run in self.runs:
            with contextlib.suppress(errors.RedisError):
                await stored_settings.remove(self.connection, run.spec, run.keys)
        self.show()

    async def kill(self) -> None:
        """End all workers at once."""
        await asyncio.gather(*(run.fleet.kill() for run in self.runs))

    @property
    def is_working(self) -> bool:
        """Whether there are worker processes."""
        return any(run.fleet.running for run in self.runs)

    def show(self) -> None:
        self._display.show([run.row for run in self.runs], self.progress)

    async def _look(self) -> None:
        """Read all queues. A queue that cannot be read is unknown, never empty."""
        try:
            found = await getters.read_signals(self.connection, [run.keys for run in self.runs], with_locks=True)
        except errors.RedisError as problem:
            for run in self.runs:
                run.signal = Unknown(str(problem))
            return
        for run, signal in zip(self.runs, found, strict=True):
            run.signal = signal if isinstance(signal, QueueSignals) else Unknown(str(signal))
            if isinstance(signal, QueueSignals):
                run.fleet.note_jobs(signal.locks_by_worker)
                with contextlib.suppress(errors.RedisError):
                    await stored_settings.keep(self.connection, run.spec, run.keys, signal)
        if any(run.fleet.has_starting for run in self.runs):
            await self._note_ready()

    async def _note_ready(self) -> None:
        """A worker is ready as soon as a connection of its name exists. A worker that holds jobs is known to be."""
        with contextlib.suppress(errors.RedisError):
            names = client_names(await self.connection.command("CLIENT", "LIST"))
            for run in self.runs:
                start = run.keys.client_name(":w:")
                run.fleet.note_ready({name.removeprefix(start) for name in names if name.startswith(start)})

    def _heard(self, worker: str, line: str) -> None:
        if self._shows_output:
            self._display.say(f"{worker} | {line}")

    def _crashed(self, text: str, last_line: str) -> None:
        self._display.say(text if self._shows_output else f"{text}: {last_line}")


def client_names(reply: bytes) -> set[str]:
    """The connections' names out of the reply to `CLIENT LIST`: one line a connection, `id=1 addr=… name=… …`."""
    words = (word for line in reply.decode(errors="replace").splitlines() for word in line.split(" "))
    return {word.removeprefix("name=") for word in words if word.startswith("name=")}
