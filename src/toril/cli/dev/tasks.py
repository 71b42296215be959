"""The tasks of a queue's module, read in a process of its own, since it imports the user's code.

Run as `python -m toril.cli.dev.tasks MODULE QUEUE`; prints a JSON list of `{name, data}`, `data` being an example.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toril import errors
from toril.cli.dev import child
from toril.specs.jobqueue import JobQueueSpec

LIMIT_SECONDS = 20.0
"""An import that takes longer is given up: the result is only a hint."""


@dataclass(frozen=True, slots=True)
class Task:
    """A job that the queue's workers can run."""

    name: str
    data: Mapping[str, Any]


async def find_task(spec: JobQueueSpec, environment: Mapping[str, str]) -> tuple[Task | None, str | None]:
    """The first task of a queue's module, or the error of importing the module; neither when the process gave no
    answer."""
    module = str(spec.worker.processor["python"]["module"])
    process = await asyncio.create_subprocess_exec(
        *child.guarded(sys.executable, "-P", "-m", "toril.cli.dev.tasks", module, spec.queue_name),
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        return None, None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = stderr.decode(errors="replace").strip().splitlines()
        return None, lines[-1] if lines else f"its module ended Python with code {process.returncode}"
    # Earlier lines are the module's own output.
    found = json.loads(stdout.splitlines()[-1])
    return (Task(found[0]["name"], found[0]["data"]) if found else None), None


def main() -> None:
    from toril.queue import known_queues
    from toril.worker import processors

    module, queue_name = sys.argv[1:]
    try:
        processors.load_python(module, queue_name)
    except errors.ProcessorLoadError as problem:
        sys.exit(str(problem))
    tasks = [task for queue in known_queues if queue.name == queue_name for task in queue.tasks.values()]
    print(json.dumps([{"name": task.name, "data": task.parameters.example()} for task in tasks]))


if __name__ == "__main__":
    main()
