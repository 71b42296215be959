"""Local mode's workers: processes of this machine, started and drained to the number that the scaler wants."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Collection, Mapping

from toril import clock
from toril.cli.dev.worker_process import WorkerProcess
from toril.scaling.policy import FleetState

HEALTHY_MS = 10_000
"""After so long without a crash, earlier crashes no longer count."""
FIRST_PAUSE_MS = 500
LONGEST_PAUSE_MS = 30_000


class CrashPauses:
    """Pauses before a crashed worker is replaced: 0.5 s, 1 s, 2 s … 30 s. Pure: the time is an argument."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self._until_ms = 0

    def note_crash(self, now_ms: int) -> int:
        """Note that a worker has ended without being stopped. Returns the pause, milliseconds from now.

        Workers that crash during a pause were started together, so they count as one crash.
        """
        self.forget_old(now_ms)
        if now_ms >= self._until_ms:
            self.in_a_row += 1
            self._until_ms = now_ms + min(FIRST_PAUSE_MS * 2 ** min(self.in_a_row - 1, 10), LONGEST_PAUSE_MS)
        return self._until_ms - now_ms

    def forget_old(self, now_ms: int) -> None:
        if now_ms >= self._until_ms + HEALTHY_MS:
            self.in_a_row = 0

    def allowed(self, missing: int, starting: int, now_ms: int) -> int:
        """How many of the missing workers may be started now: after a crash one at a time, until that one serves."""
        self.forget_old(now_ms)
        if now_ms < self._until_ms:
            return 0
        return missing if self.in_a_row == 0 else min(missing, 1 - min(starting, 1))


class ProcessFleet:
    """The workers of one queue. Scaling down asks the least busy to drain; a crashed one is replaced after a pause."""

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        *,
        on_line: Callable[[str, str], None],
        on_crash: Callable[[str, str], None],
    ) -> None:
        """Args:
        name: the workers are `<name>-<session>-1`, `<name>-<session>-2` …, so that no worker of a later session has the
            name of one whose jobs are still active.
        environment: complete environment of the workers, but for their names.
        on_line: gets (worker name, line) for everything that a worker prints.
        on_crash: gets a line about a worker that ended unasked, and the last one that it printed.
        """
        self.name = name
        self._session = os.urandom(2).hex()
        self.wanted = 0
        self.pauses = CrashPauses()
        self._environment = environment
        self._on_line = on_line
        self._on_crash = on_crash
        self._workers: dict[str, WorkerProcess] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._jobs_by_worker: Mapping[str, int] = {}

    # ---- what the scaler asks

    def observe(self) -> FleetState:
        """How many workers are wanted, and how many hold jobs."""
        busy = sum(self._jobs_by_worker.get(name, 0) > 0 for name in self._workers)
        return FleetState(current=self.wanted, busy=busy)

    async def scale(self, replicas: int) -> None:
        """Have `replicas` workers: start the missing ones, crashed ones included; send SIGTERM to the surplus.

        The workers with the fewest jobs go first; among equals, the youngest.
        """
        self.wanted = replicas
        serving = [worker for worker in self._workers.values() if not worker.is_draining]
        serving.sort(key=lambda worker: (self._jobs_by_worker.get(worker.name, 0), -worker.number))
        for worker in serving[: max(len(serving) - replicas, 0)]:
            worker.is_draining = True
            worker.send(signal.SIGTERM)
        starting = sum(not worker.is_ready for worker in serving)
        for _ in range(self.pauses.allowed(replicas - len(serving), starting, clock.monotonic_ms())):
            await self._spawn()

    # ---- what the session reads and reports

    @property
    def ready(self) -> int:
        return sum(worker.is_ready and not worker.is_draining for worker in self._workers.values())

    @property
    def draining(self) -> int:
        return sum(worker.is_draining for worker in self._workers.values())

    @property
    def running(self) -> int:
        """Number of processes, including those that drain."""
        return len(self._workers)

    @property
    def has_starting(self) -> bool:
        return any(not worker.is_ready and not worker.is_draining for worker in self._workers.values())

    def note_ready(self, names: Collection[str]) -> None:
        """These workers are connected to Redis."""
        for worker in self._workers.values():
            worker.is_ready = worker.is_ready or worker.name in names

    def note_jobs(self, jobs_by_worker: Mapping[str, int]) -> None:
        """Jobs that each worker holds now."""
        self._jobs_by_worker = jobs_by_worker
        self.note_ready(jobs_by_worker.keys())

    async def kill(self) -> None:
        """End all workers at once. Their jobs are recovered when their locks run out."""
        self.wanted = 0
        for worker in self._workers.values():
            worker.is_draining = True
            worker.kill()
        if self._watchers:
            await asyncio.wait(self._watchers)

    # ---- inside

    async def _spawn(self) -> None:
        number = next(self._numbers)
        worker = WorkerProcess(f"{self.name}-{self._session}-{number}", number, self._on_line)
        await worker.start(self._environment)
        self._workers[worker.name] = worker
        watcher = asyncio.create_task(self._watch(worker), name=f"watch {worker.name}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, worker: WorkerProcess) -> None:
        code = await worker.wait()
        del self._workers[worker.name]
        if not worker.is_draining:
            self._crashed(worker, code)

    def _crashed(self, worker: WorkerProcess, code: int) -> None:
        pause_ms = self.pauses.note_crash(clock.monotonic_ms())
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        what = f"worker {worker.name} ended {how}; the next one starts in {pause_ms / 1000:.1f} s"
        self._on_crash(what, worker.last_words)
