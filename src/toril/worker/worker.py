"""One worker: puts the parts together, starts them, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping

from toril import clock
from toril.engine.identity import ProcessIdentity
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.worker import ActiveJobs, Taker
from toril.worker import health
from toril.worker.defaults_reader import DefaultsReader
from toril.worker.ends import Ends
from toril.worker.executor import Executor
from toril.worker.fetcher import Fetcher
from toril.worker.heartbeat import Heartbeat
from toril.worker.hooks import Hooks
from toril.worker.lock_keeper import LockKeeper
from toril.worker.metrics import Metrics
from toril.worker.outcomes import RuleBook
from toril.worker.processors import Processors
from toril.worker.recoverer import Recoverer
from toril.worker.registration import Registration
from toril.worker.reporter import Reporter
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.server_clock import ServerClock
from toril.worker.settings import WorkerSettings

UNWIND_SECONDS = 1.0
"""How long cancelled coroutines may clean up before their jobs are given back."""
DELIVER_SECONDS = 10.0
"""How long Redis may stay away after a drain's end before the worker leaves with results that are not recorded."""

logger = logging.getLogger("toril.worker")


class Worker:
    """Works on one queue until it is stopped. Make it inside a running event loop.

    ```python
    worker = Worker(settings, processors)
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    ```
    """

    def __init__(self, settings: WorkerSettings, processors: Processors) -> None:
        self.settings = settings
        self._keys = QueueKeys(settings.queue, settings.prefix)
        self._connection = AsyncConnection(settings.redis)
        self._blocking = BlockingConnection(settings.redis, client_name=self._keys.client_name(f":w:{settings.name}"))
        self._active = ActiveJobs(self._connection, self._keys, _taker(settings))
        self._heartbeat = Heartbeat()
        self._metrics = Metrics(_labels(settings.queue, os.environ), self._slots)
        self._hooks = Hooks(processors.hooks)
        self._reporter = Reporter(self._metrics, settings.redis.endpoint)
        rules = RuleBook(settings.keep_completed, settings.keep_failed, processors.backoff_strategy)
        self._defaults_reader = DefaultsReader(self._active, rules)
        self._executor = Executor(
            processors,
            rules,
            self._active,
            concurrency=settings.concurrency,
            max_started_attempts=settings.max_started_attempts,
        )
        server_clock = ServerClock(self._active)
        upkeep = SchedulerUpkeep(self._active, self._metrics.record_stuck_schedulers)
        registration = Registration(
            self._active,
            ProcessIdentity(settings.name, os.urandom(16).hex(), settings.container),
            self._reporter,
            max_stalled_count=settings.max_stalled_count,
            interval_ms=settings.stalled_interval_ms,
        )
        self._fetcher = Fetcher(
            self._active,
            self._blocking,
            self._executor,
            self._reporter,
            Ends(self._metrics, self._reporter, self._hooks),
            self._heartbeat,
            server_clock,
            upkeep,
            registration,
            concurrency=settings.concurrency,
            idle_poll_seconds=settings.idle_poll_seconds,
            max_rate_limit_wait_ms=settings.max_rate_limit_wait_ms,
        )
        self._lock_keeper = LockKeeper(self._fetcher, renew_ms=settings.lock_renew_ms)
        self._recoverer = Recoverer(
            self._active,
            self._fetcher,
            server_clock,
            upkeep,
            registration,
            interval_ms=settings.stalled_interval_ms,
            max_stalled_count=settings.max_stalled_count,
            on_recovered=self._reporter.recovered,
            on_invalid=self._reporter.report_invalid_limits,
        )
        self._probe = health.build_probe(self._heartbeat, self._why_not_ready, self._metrics)
        self._starting: asyncio.Task[None] | None = None
        self._shutdown: asyncio.Task[None] | None = None
        self._stopped_ms = 0

    async def run(self) -> int:
        """Work until stopped and drained.

        Returns:
            How many jobs have ended without Redis knowing it, because it stayed away; others will run them again.

        Raises:
            OSError: the port of the probes is taken, or may not be used.
            Exception: what a function of `on_start` raised.
        """
        if self.settings.http_port:
            await self._probe.start(self.settings.http_port)
        await self._start()
        helpers = [
            # The first, so that the defaults are read before the first job is taken.
            asyncio.create_task(self._defaults_reader.read_loop(), name="toril defaults"),
            asyncio.create_task(self._lock_keeper.renew_loop(), name="toril locks"),
            asyncio.create_task(self._recoverer.recover_loop(), name="toril recovery"),
        ]
        work = asyncio.create_task(self._fetcher.run(), name="toril main loop")
        try:
            # A helper never ends by itself: if one does, it broke, and locks would silently run out.
            await asyncio.wait([work, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, *helpers):
                if task.done():
                    task.result()
        finally:
            for task in (work, *helpers, *([self._shutdown] if self._shutdown else [])):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            # Without the loops, which may have broken, nobody would keep jobs' locks, or hear of their ends.
            self._fetcher.stop()
            await self._executor.abandon(UNWIND_SECONDS)
            await self._close()
        return self._fetcher.unrecorded

    async def _start(self) -> None:
        """Call the functions of `on_start`; a worker that is told to stop meanwhile does not wait for them."""
        self._starting = asyncio.create_task(self._hooks.start(), name="toril start")
        try:
            await self._starting
        except BaseException as problem:
            if self._shutdown is None or not isinstance(problem, asyncio.CancelledError):
                await self._close()
                raise

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those that run have ended, or are given back. Again: no effect."""
        if self._shutdown is not None:
            return
        self._stopped_ms = clock.monotonic_ms()
        running = len(self._executor.running)
        logger.info("draining: %d running jobs, at most %g s", running, self.settings.drain_seconds)
        self._fetcher.stop()
        if self._starting is not None:
            self._starting.cancel()
        self._shutdown = asyncio.get_running_loop().create_task(self._end_shutdown(), name="toril shutdown")

    @property
    def has_leftovers(self) -> bool:
        """Whether functions of abandoned jobs may still run: a process that waits for them may never end."""
        return self._executor.has_leftovers

    async def _end_shutdown(self) -> None:
        """When time is up, give the rest back; and do not wait for Redis for ever."""
        await asyncio.sleep(self.settings.drain_seconds)
        self._reporter.given_back(await self._fetcher.abandon(UNWIND_SECONDS))
        await asyncio.sleep(DELIVER_SECONDS)
        self._fetcher.give_up()

    async def _close(self) -> None:
        self._executor.close()
        await self._hooks.close()
        self._reporter.close()
        await self._probe.close()
        await self._blocking.close()
        await self._connection.close()
        if self._stopped_ms:
            logger.info("stopped after %.1f s", (clock.monotonic_ms() - self._stopped_ms) / 1000)

    def _why_not_ready(self) -> str:
        if self._fetcher.is_draining:
            return "draining"
        return "" if self._reporter.has_reached_redis else "Redis was not reached yet"

    def _slots(self) -> Mapping[str, int]:
        busy = len(self._executor.running)
        if self._fetcher.is_draining:
            return {"busy": 0, "idle": 0, "draining": busy}
        return {"busy": busy, "idle": max(0, self.settings.concurrency - busy), "draining": 0}


def _taker(settings: WorkerSettings) -> Taker:
    return Taker(
        worker_name=settings.name,
        lock_ms=settings.lock_ms,
        layout=settings.layout,
        limiter=settings.limiter,
        metrics_minutes=settings.metrics_minutes,
        max_job_bytes=settings.max_job_bytes,
    )


def _labels(queue: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Namespace and JobQueue where they are known; else the queue's name stands for them."""
    namespace, jobqueue = environ.get("TORIL_NAMESPACE"), environ.get("TORIL_JOBQUEUE")
    if namespace and jobqueue:
        return {"namespace": namespace, "jobqueue": jobqueue}
    return {"queue": queue}
