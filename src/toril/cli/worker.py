"""`toril worker …`: a worker in this terminal."""

from __future__ import annotations

import json
import os
import signal

import click

from toril.cli import output
from toril.cli.job import redis_option


@click.group()
def worker() -> None:
    """Run a worker in this terminal."""


@worker.command()
@click.argument("module")
@click.option("--queue", metavar="NAME", help="Queue to serve; not needed when the module has only one.")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Jobs at the same time. [default: 1]")
@click.option("--prefix", metavar="TEXT", help="First part of the queue's keys. [default: bull]")
@redis_option
def run(module: str, queue: str | None, concurrency: int | None, prefix: str | None, redis_url: str | None) -> int:
    """Serve the tasks of MODULE (such as app.jobs, looked for in this folder too) until Ctrl-C.

    The first Ctrl-C lets the running jobs finish. Everything else comes from the TORIL_… variables that workers on
    Kubernetes have too; there is no HTTP port unless TORIL_HTTP_PORT names one.
    """
    from toril.worker import signals

    signals.leave_at_once()
    from toril.worker import process, processors
    from toril.worker.settings import WorkerSettings

    environ = {"TORIL_HTTP_PORT": "0", **os.environ, "TORIL_PROCESSOR": json.dumps({"python": {"module": module}})}
    given = {"TORIL_QUEUE": queue, "TORIL_PREFIX": prefix}
    environ |= {name: value for name, value in given.items() if value}
    if concurrency is not None:
        environ["TORIL_CONCURRENCY"] = str(concurrency)
    if not environ.get("TORIL_QUEUE"):
        environ["TORIL_QUEUE"] = processors.only_queue_of(module)
    settings = WorkerSettings.from_environment(environ, redis_url=redis_url)
    return process.run(settings, on_signal=_Interruptions())


class _Interruptions:
    """Prints once what a second Ctrl-C does."""

    def __init__(self) -> None:
        self._is_first = True

    def __call__(self, number: signal.Signals) -> None:
        if self._is_first and number == signal.SIGINT:
            output.note("\ndraining: running jobs may finish, no new ones are taken")
        self._is_first = False
