"""`toril dev`: reads flags and manifests, and runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import click

from toril.cli import output
from toril.cli.dev import demo, hints, local_run, manifests, table
from toril.cli.output import ExitCode

DEMO_JOBS = 300


@click.command()
@click.option(
    "-f", "--filename", "paths", metavar="DIR|FILE", type=click.Path(path_type=Path), multiple=True, required=True,
    help="Manifests of JobQueues and CronJobSchedules, as for kubectl apply. May be repeated.",
)  # fmt: skip
@click.option("--demo", "is_demo", is_flag=True, help="Add jobs to examples/zettanote, account for each, and end.")
@click.option(
    "--jobs", type=click.IntRange(1, demo.MAX_JOBS), metavar="N",
    help=f"With --demo: how many jobs; {DEMO_JOBS} by default.",
)  # fmt: skip
@click.option("--redis", "redis_url", metavar="URL", help="Use this Redis; by default a private server is started.")
def dev(paths: Sequence[Path], is_demo: bool, jobs: int | None, redis_url: str | None) -> ExitCode:
    """Run manifests of JobQueues and CronJobSchedules on this machine, without a cluster.

    Starts a private Redis or Valkey server that keeps nothing, and worker processes that are scaled from zero by the
    same rules as in a cluster. The workers find their modules in the manifests' folders, then in the current one.
    In the table, 0→3 means three workers are wanted and none serves yet; (+1) is one that finishes its last jobs.

    Ctrl-C lets running jobs finish and ends everything; a second Ctrl-C ends it at once.
    """
    demo_jobs = (jobs or DEMO_JOBS) if is_demo else None
    if jobs is not None and not is_demo:
        raise click.UsageError("--jobs goes with --demo")
    try:
        loaded = manifests.load(paths)
    except manifests.ManifestError as refused:
        for problem in refused.problems:
            output.note(output.printable(problem))
        return ExitCode.USAGE
    specs = [queue.spec for queue in loaded.queues]
    if is_demo:
        demo.check_manifests(specs)
        specs = [demo.quickened(spec) for spec in specs]
    folders = list(dict.fromkeys(queue.file.resolve().parent for queue in loaded.queues))
    with contextlib.closing(table.open_display()) as display:
        for line in hints.about_manifests(loaded, is_demo=is_demo):
            display.say(line)
        schedules = [schedule.spec for schedule in loaded.schedules]
        running = local_run.run(specs, schedules, folders, display, redis_url=redis_url, demo_jobs=demo_jobs)
        return asyncio.run(running)
