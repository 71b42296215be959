"""The text before local mode starts: ignored fields, and commands that add jobs. Pure."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from toril.cli.dev import demo, environment
from toril.cli.dev.manifests import Manifests
from toril.cli.dev.tasks import Task
from toril.engine.redis.settings import RedisSettings
from toril.specs.cron_job_schedule import CronJobScheduleSpec
from toril.specs.jobqueue import JobQueueSpec


def about_manifests(loaded: Manifests, *, is_demo: bool) -> Iterator[str]:
    """The manifests that were found, and their fields that local mode ignores."""
    names = ", ".join(queue.spec.queue_name for queue in loaded.queues)
    yield f"queues: {names}"
    if loaded.schedules:
        yield f"schedules: {', '.join(_about_schedule(schedule.spec) for schedule in loaded.schedules)}"
    yield "ignored here: spec.redis and worker.image (workers are processes)"
    for queue in loaded.queues:
        if fields := ", ".join(environment.ignored_fields(queue.spec)):
            yield f"JobQueue/{queue.spec.name}: ignored as well, for want of a cluster: {fields}"
    if loaded.ignored:
        yield f"ignored, being no JobQueue or CronJobSchedule: {', '.join(loaded.ignored)}"
    if is_demo:
        seconds = demo.QUICK_MS / 1000
        yield f"demo: cooldown and scale-down window are {seconds:g} s, so that you see the way back to 0"


def _about_schedule(spec: CronJobScheduleSpec) -> str:
    when = f"every {(spec.every_ms or 0) / 1000:g} s" if spec.pattern is None else f"{spec.pattern} {spec.time_zone}"
    return f"{spec.name} ({'suspended' if spec.is_suspended else when})"


def how_to_add(spec: JobQueueSpec, task: Task | None, url: str) -> Iterator[str]:
    """Commands that add a job to a queue; of `task` if one is known."""
    shown = shown_url(url)
    name, data = (task.name, task.data) if task is not None else ("NAME", {})
    data_json = json.dumps(data, ensure_ascii=False)
    prefix = "" if spec.prefix == "bull" else f" --prefix {shlex.quote(spec.prefix)}"
    queue = shlex.quote(spec.queue_name)
    command = f"{program()} job add {queue} {shlex.quote(name)} --data {shlex.quote(data_json)}"
    yield ""
    yield "add a job from another terminal" + (":" if task is not None else ", NAME being that of a task:")
    yield f"  {command} --redis {shlex.quote(shown)}{prefix}"
    yield "or with BullMQ's own package for Node (npm install bullmq ioredis):"
    options = {"connection": {"url": shown}} | ({} if spec.prefix == "bull" else {"prefix": spec.prefix})
    script = (
        f'const q = new (require("bullmq").Queue)({json.dumps(spec.queue_name)}, {json.dumps(options)}); '
        f"q.add({json.dumps(name)}, {data_json}).then(() => q.close())"
    )
    yield f"  node -e {shlex.quote(script)}"
    yield "Ctrl-C lets running jobs finish and ends everything"


def shown_url(url: str) -> str:
    """The address without user and password."""
    settings = RedisSettings.from_url(url)
    if settings.username is None and settings.password is None:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://USER:PASSWORD@{rest.rpartition('@')[2]}"


def program() -> str:
    """The command of this program in a shell: its name if `PATH` has it, else its path."""
    path = Path(sys.argv[0])
    found = shutil.which("toril")
    return "toril" if found is not None or path.name != "toril" else str(path)
