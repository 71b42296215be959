"""What local mode says before it starts: what it ignores, and how to add jobs. Pure text."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from toril.cli.dev import demo, environment
from toril.cli.dev.manifests import Manifests
from toril.engine.settings import RedisSettings
from toril.specs.jobqueue import JobQueueSpec, WorkerMode


def about_manifests(loaded: Manifests, *, is_demo: bool) -> Iterator[str]:
    """What was found, and what of it has no meaning without a cluster."""
    names = ", ".join(queue.spec.queue_name for queue in loaded.queues)
    yield f"queues: {names}"
    yield "ignored here: spec.redis and worker.image (one Redis for all, workers are processes)"
    for queue in loaded.queues:
        if fields := ", ".join(environment.ignored_fields(queue.spec)):
            yield f"JobQueue/{queue.spec.name}: ignored as well, for want of a cluster: {fields}"
    if loaded.ignored:
        yield f"ignored, being no JobQueue: {', '.join(loaded.ignored)}"
    if is_demo:
        seconds = demo.QUICK_MS / 1000
        yield f"demo: cooldown and scale-down window are {seconds:g} s, so that you see the way back to 0"


def how_to_add(specs: Sequence[JobQueueSpec], url: str) -> Iterator[str]:
    """Commands that add a job to the first queue that has workers."""
    worked = [spec for spec in specs if spec.worker.mode is not WorkerMode.NONE]
    if not worked:
        return
    spec, shown = worked[0], shown_url(url)
    prefix = "" if spec.prefix == "bull" else f" --prefix {shlex.quote(spec.prefix)}"
    queue = shlex.quote(spec.queue_name)
    yield "add a job from another terminal, NAME being that of a task:"
    yield f"  {program()} job add {queue} NAME --data '{{}}' --redis {shlex.quote(shown)}{prefix}"
    yield "or with BullMQ's own package for Node:"
    options = {"connection": {"url": shown}} | ({} if spec.prefix == "bull" else {"prefix": spec.prefix})
    script = (
        f'const q = new (require("bullmq").Queue)({json.dumps(spec.queue_name)}, {json.dumps(options)}); '
        'q.add("NAME", {}).then(() => q.close())'
    )
    yield f"  node -e {shlex.quote(script)}"
    yield "Ctrl-C ends everything"


def shown_url(url: str) -> str:
    """The address without what is secret in it."""
    settings = RedisSettings.from_url(url)
    if settings.username is None and settings.password is None:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://USER:PASSWORD@{rest.rpartition('@')[2]}"


def program() -> str:
    """How this program is called from a shell: its name where it is found by that, else its path."""
    path = Path(sys.argv[0])
    found = shutil.which("toril")
    return "toril" if found is not None or path.name != "toril" else str(path)
