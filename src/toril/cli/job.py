"""`toril job …`: jobs of a queue, over Redis itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toril import clock, errors
from toril.cli import output
from toril.cli.output import ExitCode

if TYPE_CHECKING:
    from toril.queue import Queue

F = TypeVar("F", bound=Callable[..., Any])

_UNIT_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_MS = 100 * 366 * _UNIT_MS["d"]
"""Longest length of time that is accepted: a hundred years."""
PATIENCE_SECONDS = 5.0
"""With --wait: how long a job may wait before the command looks whether any worker is connected to the queue."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")


class DurationMs(click.ParamType[int]):
    """A length of time: `30` (seconds), `500ms`, `1.5h`. Becomes whole milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no length of time: 30 (seconds), 500ms, 5m, 1.5h, 2d", param, ctx)
        length_ms = float(found[1]) * _UNIT_MS[found[2]]
        if length_ms > LONGEST_MS:
            self.fail(f"{str(value)[:40]!r} is too long: at most {LONGEST_MS // _UNIT_MS['d']} days", param, ctx)
        return round(length_ms)


class JsonData(click.ParamType[Any]):
    """JSON text, `@FILE`, or `-` for stdin."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        text, source = value, "the text"
        if value == "-":
            text, source = _read_stdin(self, param, ctx), "stdin"
        elif value.startswith("@"):
            source = value[1:]
            try:
                text = Path(source).read_text()
            except OSError as problem:
                self.fail(f"{source}: {problem.strerror}", param, ctx)
            except UnicodeDecodeError:
                self.fail(f"{source}: is not UTF-8 text", param, ctx)
        try:
            return json.loads(text)
        except ValueError as problem:
            self.fail(f"{source} is not JSON: {problem}", param, ctx)
        except RecursionError:
            self.fail(f"{source} nests too deeply", param, ctx)


def _read_stdin(kind: JsonData, param: click.Parameter | None, ctx: click.Context | None) -> str:
    if sys.stdin is None:
        kind.fail("stdin is closed", param, ctx)
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        kind.fail("stdin is not UTF-8 text", param, ctx)


def redis_option(function: F) -> F:
    """The option `--redis URL` of every command that uses an existing Redis."""
    text = "Redis to use, before what the environment says."
    return click.option("--redis", "redis_url", metavar="URL", help=text, callback=_checked_url)(function)


def _checked_url(ctx: click.Context, param: click.Parameter, url: str | None) -> str | None:
    """The option's value. Raises SettingsError, which names the option and not its value."""
    if url:
        from toril.engine.redis.settings import RedisSettings

        RedisSettings.from_url(url, "--redis")
    return url


@click.group()
def job() -> None:
    """Add jobs to a queue."""


@job.command()
@click.argument("queue")
@click.argument("name")
@click.option("--data", type=JsonData(), default="{}", show_default=True, help="JSON text, @FILE, or - for stdin.")
@click.option("--delay", type=DurationMs(), help="Start no earlier than in 30 (seconds), 500ms, 5m, 2h, 1d.")
@click.option("--job-id", metavar="ID", help="Add nothing when a job with this id is there already.")
@click.option("--priority", type=int, metavar="N", help="1 runs first; jobs without a priority run before all.")
@click.option("--attempts", type=int, metavar="N", help="How often the job may be tried in all.")
@click.option("--prefix", default="bull", show_default=True, help="First part of the queue's keys.")
@redis_option
@click.option("--wait", is_flag=True, help="Wait until the job has ended; print what its function returned.")
@click.option("--timeout", type=DurationMs(), help="With --wait: give up after this time (exit code 6).")
def add(
    queue: str,
    name: str,
    data: Any,
    delay: int | None,
    job_id: str | None,
    priority: int | None,
    attempts: int | None,
    prefix: str,
    redis_url: str | None,
    wait: bool,
    timeout: int | None,
) -> ExitCode:
    """Add a job called NAME to QUEUE and print its id.

    With --wait its result is printed instead, as JSON: exit code 0 when it completed, 1 when it failed.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    options = {"delay": delay, "jobId": job_id, "priority": priority, "attempts": attempts}
    try:
        result = asyncio.run(_add(queue, prefix, redis_url, name, data, options, wait, timeout))
    except errors.JobFailedError as problem:
        output.error(f"job {problem.job_id} failed: {output.printable(str(problem))}")
        return ExitCode.FAILED
    output.data(result)
    return ExitCode.OK


async def _add(
    queue_name: str,
    prefix: str,
    redis_url: str | None,
    name: str,
    data: Any,
    options: Mapping[str, Any],
    wait: bool,
    timeout_ms: int | None,
) -> str:
    """Returns: the job's id, or with `wait` its result as JSON."""
    from toril.queue import Queue

    async with Queue(queue_name, url=redis_url, prefix=prefix) as queue:
        began_ms = clock.now_ms()
        handle = await queue.add(name, data, options)
        if options["jobId"] is not None and await _is_older(queue, handle.id, began_ms):
            output.note(f"nothing added: queue {queue_name} has a job {handle.id} already")
        elif wait:
            output.note(f"job {handle.id} added")
        if not wait:
            return handle.id
        looking = asyncio.create_task(_report_no_worker(queue, handle.id))
        try:
            result = await handle.result(None if timeout_ms is None else timeout_ms / 1000)
        finally:
            looking.cancel()
        return json.dumps(result, ensure_ascii=False)


async def _is_older(queue: Queue, job_id: str, began_ms: int) -> bool:
    """Whether a job was added before this command began. False when it is gone."""
    with contextlib.suppress(errors.JobNotFoundError):
        return (await queue.handle(job_id).job()).timestamp_ms < began_ms
    return False


async def _report_no_worker(queue: Queue, job_id: str) -> None:
    """Say on stderr, once, when nothing works on the queue; the name may be wrong."""
    await asyncio.sleep(PATIENCE_SECONDS)
    # Without the right to CLIENT LIST it is not known.
    with contextlib.suppress(errors.RedisError):
        if not await queue.workers():
            words = "is the name right? A queue that is scaled to zero gets its worker in some seconds"
            output.note(f"job {job_id} waits: no worker is connected to queue {queue.name}; {words}")
