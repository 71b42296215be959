"""One run of local mode: server, session and demo are started, watched, and ended in order, whatever ends first."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toril import errors
from toril.cli import output
from toril.cli.dev import environment, hints, tasks
from toril.cli.dev.demo import Demo
from toril.cli.dev.server import LocalServer, find_server
from toril.cli.dev.session import Session
from toril.cli.dev.table import Display
from toril.cli.output import ExitCode
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril.specs.cron_job_schedule import CronJobScheduleSpec
from toril.specs.jobqueue import JobQueueSpec, WorkerMode


async def run(
    specs: Sequence[JobQueueSpec], schedules: Sequence[CronJobScheduleSpec], folders: Sequence[Path],
    display: Display, *, redis_url: str | None, demo_jobs: int | None,
) -> ExitCode:  # fmt: skip
    """Run the queues until Ctrl-C, or until the demo is over.

    Args:
        folders: where the workers find modules first.
        redis_url: None = start a server.
        demo_jobs: how many jobs the demo adds; None = no demo.

    Raises:
        RedisError: Redis cannot be reached at the start, or the server of our own has ended.
        SettingsError: there is no server to start.
    """
    interrupts = Interrupts()
    with interrupts.caught():
        async with _redis(redis_url, display) as (url, server_end):
            connection = AsyncConnection(RedisSettings.from_environment(os.environ, url=url, field="--redis"))
            environments = [environment.build_environment(spec, url, folders, os.environ) for spec in specs]
            session = Session(
                specs, environments, connection, display, schedules=schedules, shows_output=demo_jobs is None
            )
            try:
                await connection.command("PING")
                demo = None if demo_jobs is None else Demo(session, demo_jobs)
                if demo is None:
                    await _tell_how_to_add(specs, environments, url, display)
                return await _watch(session, demo, interrupts, server_end(), display)
            finally:
                await session.kill()
                await connection.close()


class Interrupts:
    """SIGINT and SIGTERM: the first lets jobs finish, the second ends all workers at once."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._note)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _note(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


@contextlib.asynccontextmanager
async def _redis(
    redis_url: str | None, display: Display
) -> AsyncIterator[tuple[str, Callable[[], Coroutine[Any, Any, Any]]]]:
    """The address to use, and a task that raises when the server ends by itself."""
    if redis_url is not None:
        settings = RedisSettings.from_environment(os.environ, url=redis_url, field="--redis")
        display.say(f"Redis at {settings.endpoint}")
        yield redis_url, asyncio.Event().wait
        return
    server = LocalServer(find_server())
    await server.start()
    try:
        display.say(f"{server.version} at {server.url}, gone with all its data when this ends")
        yield server.url, functools.partial(_raise_at_end, server)
    finally:
        await server.stop()


async def _raise_at_end(server: LocalServer) -> None:
    log = await server.wait_ended()
    raise errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, f"the server of our own has ended: {log}")


async def _tell_how_to_add(
    specs: Sequence[JobQueueSpec], environments: Sequence[Mapping[str, str]], url: str, display: Display
) -> None:
    """Commands for the first queue that has workers here."""
    for spec, variables in zip(specs, environments, strict=True):
        if spec.worker.mode is not WorkerMode.NONE:
            task, problem = await tasks.find_task(spec, variables)
            if problem is not None:
                display.say(f"JobQueue/{spec.name}: workers will not start: {output.printable(problem)}")
            for line in hints.how_to_add(spec, task, url):
                display.say(line)
            return


async def _watch(
    session: Session, demo: Demo | None, interrupts: Interrupts, server_end: Coroutine[Any, Any, Any], display: Display
) -> ExitCode:
    turns = asyncio.create_task(session.run(), name="scaling")
    ended = asyncio.create_task(server_end, name="server")
    stop = asyncio.create_task(interrupts.stop.wait(), name="stop")
    account = None if demo is None else asyncio.create_task(demo.run(), name="demo")
    watched = [task for task in (turns, ended, stop, account) if task is not None]
    try:
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop, account}:
            task.result()
        await _cancel(turns)
        if demo is not None and account in done:
            if session.is_working:
                await session.drain()
            return _tell(demo, account.result(), display)
        await _cancel(account)
        return await _drain(session, interrupts, ended, display, was_cut=demo is not None)
    finally:
        for task in watched:
            await _cancel(task)


async def _cancel(task: asyncio.Future[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _drain(
    session: Session, interrupts: Interrupts, server_end: asyncio.Future[Any], display: Display, *, was_cut: bool
) -> ExitCode:
    if session.is_working:
        display.say("stopping: running jobs finish first; Ctrl-C again ends them at once")
    drained = asyncio.create_task(session.drain(), name="drain")
    hurry = asyncio.create_task(interrupts.hurry.wait(), name="hurry")
    try:
        await asyncio.wait({drained, hurry, server_end}, return_when=asyncio.FIRST_COMPLETED)
        is_orderly = drained.done() and not was_cut
        return ExitCode.OK if is_orderly else ExitCode.INTERRUPTED
    finally:
        await _cancel(drained)
        await _cancel(hurry)


def _tell(demo: Demo, problems: Sequence[str], display: Display) -> ExitCode:
    """Print the report of the demo below the table."""
    display.close()
    summary = demo.summary()
    for line in summary.lines():
        output.data(line)
    output.data("")
    if not problems:
        output.data(f"All {summary.jobs} jobs are accounted for, after {summary.seconds:.0f} s.")
        output.note("Without --demo, toril dev goes on and prints how to add jobs of your own.")
        return ExitCode.OK
    output.data(f"{len(problems)} differences from the plan, after {summary.seconds:.0f} s:")
    for line in problems[:20]:
        output.data(f"  {output.printable(line)}")
    if len(problems) > 20:
        output.data(f"  … and {len(problems) - 20} more")
    return ExitCode.FAILED
