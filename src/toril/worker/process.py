"""The worker as a process: signals, logging, event loop, exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from toril import errors
from toril.telemetry import zone_data
from toril.worker import logs, processors, signals
from toril.worker.settings import CONTAINER_VARIABLES, WorkerSettings
from toril.worker.worker import Worker

DRAINED, BROKE, WRONG_SETTINGS = 0, 1, 2
EXIT_SECONDS = 3.0
"""How long functions that were left behind in threads may hold up the end of a worker that is done. With the time that
hooks have (`hooks.WAIT_SECONDS`) it is less than what Kubernetes grants beyond the drain."""

logger = logging.getLogger("toril.worker")


def run_from_environment(environ: Mapping[str, str]) -> int:
    """Run a worker until a signal ends it; returns the exit code. What went wrong is one line on stderr."""
    try:
        return run(WorkerSettings.from_environment(environ))
    except errors.SettingsError as problem:
        print(f"toril worker: {problem}", file=sys.stderr)  # noqa: T201 - nothing is configured that could log
        return WRONG_SETTINGS
    except errors.ProcessorLoadError as problem:
        print(f"toril worker: {problem}", file=sys.stderr)  # noqa: T201 - one line for people, whatever the log's form
        return BROKE


def run(settings: WorkerSettings, *, on_signal: Callable[[signal.Signals], None] = lambda _: None) -> int:
    """Load the processors and run a worker until a signal ends it; returns the exit code.

    Args:
        on_signal: called at each SIGTERM or SIGINT.

    Raises:
        SettingsError, ProcessorLoadError: nothing was started.
    """
    # What a job starts may be a worker too: it is not the process after this one, whose jobs it would take.
    for variable in CONTAINER_VARIABLES:
        os.environ.pop(variable, None)
    logs.configure(logs.own_stderr(), queue=settings.queue, worker=settings.name)
    found = processors.load(settings.processor, settings.queue)
    with _new_loop_runner() as runner:
        try:
            code, has_leftovers = runner.run(_serve(settings, found, on_signal))
        except asyncio.CancelledError:
            logger.error("the worker broke: a job has cancelled the tasks of the worker itself")
            code, has_leftovers = BROKE, True
        except Exception:
            logger.exception("the worker broke")
            code, has_leftovers = BROKE, False
        if has_leftovers:
            # Ending in order would wait for functions that did not end when they were told to.
            _exit(code)
        # So it would for what jobs and hooks began in threads of asyncio's and then did not wait for.
        late = threading.Timer(EXIT_SECONDS, _exit, (code,))
        late.daemon = True
        late.start()
    return code


def _exit(code: int) -> None:
    """End the process, whatever its threads do."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _serve(
    settings: WorkerSettings, found: processors.Processors, on_signal: Callable[[signal.Signals], None]
) -> tuple[int, bool]:
    """Returns: exit code, and whether functions are left that nothing can end."""
    worker = Worker(settings, found)

    def stop(number: signal.Signals) -> None:
        on_signal(number)
        worker.stop()

    tasks = ", ".join(found.names) or "default only"
    try:
        with signals.delivered(asyncio.get_running_loop(), stop):
            logger.info("worker %s serves queue %s: %s", settings.name, settings.queue, tasks)
            logger.info("time zones: release %s", zone_data.describe())
            unrecorded = await worker.run()
    except OSError as problem:
        logger.error("TORIL_HTTP_PORT %d cannot be used: %s; 0 = no probes", settings.http_port, problem.strerror)
        return BROKE, False
    if unrecorded:
        logger.error("Redis was away or refused: %d jobs have ended unrecorded and will run again", unrecorded)
        return BROKE, worker.has_leftovers
    return DRAINED, worker.has_leftovers


def _new_loop_runner() -> asyncio.Runner:
    """A runner on uvloop where it is installed: it is faster, and nothing else changes."""
    factory: Callable[[], Any] | None = None
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]  # the extra `fast`
    except ImportError:
        pass
    else:
        factory = uvloop.new_event_loop
    return asyncio.Runner(loop_factory=factory)
