"""Workers as processes of this machine: the other implementation of `toril.scaling.fleet.Fleet`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from toril import clock
from toril.cli import output
from toril.cli.dev.server import guarded
from toril.scaling.fleet import FleetState

HEALTHY_MS = 10_000
"""A worker that lived this long ends the series of crashes before it."""
FIRST_PAUSE_MS = 500
LONGEST_PAUSE_MS = 30_000
_LOG_LINES = 20
_MAX_LINE_BYTES = 64 * 1024


def restart_pause_ms(crashes: int) -> int:
    """Pause before a crashed worker is replaced, by the number of crashes in a row: 0.5 s, 1 s, 2 s … 30 s."""
    return min(FIRST_PAUSE_MS * 2 ** min(crashes - 1, 10), LONGEST_PAUSE_MS)


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One running worker."""

    name: str
    process: asyncio.subprocess.Process
    started_ms: int
    """On the monotonic clock."""
    is_ready: bool = False
    is_draining: bool = False
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class ProcessFleet:
    """The workers of one queue. Scaling down asks the least busy to drain; a crashed one is replaced after a pause."""

    def __init__(
        self,
        queue: str,
        environment: Mapping[str, str],
        *,
        on_line: Callable[[str, str], None],
        on_crash: Callable[[str], None],
    ) -> None:
        """Args:
        environment: complete environment of the workers, but for their names.
        on_line: gets (worker name, line) for everything that a worker prints.
        on_crash: gets one line about a worker that ended unasked.
        """
        self.queue = queue
        self.wanted = 0
        self.crashes = 0
        """In a row."""
        self._environment = environment
        self._on_line = on_line
        self._on_crash = on_crash
        self._workers: dict[str, WorkerProcess] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._busy: Mapping[str, int] = {}
        self._not_before_ms = 0

    # ---- the Fleet protocol

    async def observe(self) -> FleetState:
        """How many are wanted and how many serve; also replaces those that have ended."""
        await self._fill()
        return FleetState(current=self.wanted, ready=self.ready)

    async def scale(self, replicas: int) -> None:
        """Have `replicas` workers: start missing ones, ask the least busy and youngest surplus to drain."""
        self.wanted = replicas
        serving = [worker for worker in self._workers.values() if not worker.is_draining]
        serving.sort(key=lambda worker: (self._busy.get(worker.name, 0), -worker.started_ms))
        for worker in serving[: max(len(serving) - replicas, 0)]:
            worker.is_draining = True
            worker.send(signal.SIGTERM)
        await self._fill()

    # ---- what the session knows and tells

    @property
    def ready(self) -> int:
        return sum(worker.is_ready and not worker.is_draining for worker in self._workers.values())

    @property
    def running(self) -> int:
        """Processes there are, those that drain included."""
        return len(self._workers)

    @property
    def starting(self) -> bool:
        return any(not worker.is_ready and not worker.is_draining for worker in self._workers.values())

    def note_ready(self, names: Collection[str]) -> None:
        """These workers are connected to Redis."""
        for worker in self._workers.values():
            worker.is_ready = worker.is_ready or worker.name in names

    def note_busy(self, jobs_by_worker: Mapping[str, int]) -> None:
        """Jobs that each worker runs now."""
        self._busy = jobs_by_worker

    async def close(self, limit_seconds: float) -> None:
        """Let all workers finish their jobs and end; after the limit end them at once."""
        await self.scale(0)
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=limit_seconds)
        await self.kill()

    async def kill(self) -> None:
        """End all workers at once, with whatever they started. Their jobs are recovered when their locks run out."""
        self.wanted = 0
        for worker in self._workers.values():
            worker.is_draining = True
            # Each worker leads a process group of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)
        if self._watchers:
            await asyncio.wait(self._watchers)

    # ---- inside

    async def _fill(self) -> None:
        serving = sum(not worker.is_draining for worker in self._workers.values())
        if clock.monotonic_ms() >= self._not_before_ms:
            for _ in range(self.wanted - serving):
                await self._spawn()

    async def _spawn(self) -> None:
        name = f"{self.queue}-{next(self._numbers)}"
        process = await asyncio.create_subprocess_exec(
            *guarded(sys.executable, "-m", "toril.worker"),
            env={**self._environment, "TORIL_POD_NAME": name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
        worker = WorkerProcess(name, process, clock.monotonic_ms())
        self._workers[name] = worker
        watcher = asyncio.create_task(self._watch(worker), name=f"watch {name}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, worker: WorkerProcess) -> None:
        assert worker.process.stdout is not None
        while True:
            try:
                line = await worker.process.stdout.readline()
            except ValueError:
                # Longer than the limit; what was read of it is dropped.
                continue
            if not line:
                break
            text = output.printable(line.decode(errors="replace").rstrip())
            worker.last_lines.append(text)
            self._on_line(worker.name, text)
        code = await worker.process.wait()
        del self._workers[worker.name]
        if not worker.is_draining:
            self._crashed(worker, code)

    def _crashed(self, worker: WorkerProcess, code: int) -> None:
        now_ms = clock.monotonic_ms()
        self.crashes = 1 if now_ms - worker.started_ms >= HEALTHY_MS else self.crashes + 1
        pause_ms = restart_pause_ms(self.crashes)
        self._not_before_ms = now_ms + pause_ms
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        last = next((line for line in reversed(worker.last_lines) if line.strip()), "it said nothing")
        self._on_crash(f"worker {worker.name} ended {how}, replaced in {pause_ms / 1000:g} s: {last}")
