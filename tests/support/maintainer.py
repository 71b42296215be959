"""A process that does nothing but a queue's chores, over and over: `python -m support.maintainer URL QUEUE`.

It says what it did in lines of JSON, `[chore, what]`, until a signal ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.redis_server import die_with_parent
from support.waiting import wait_until
from toril import errors
from toril.engine.keys import QueueKeys
from toril.engine.maintenance import advance_schedulers, promote_due, recover_stalled
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings

PAUSE_SECONDS = 0.01
CHECK_MS = 100
CATCH_UP_MS = 600_000


async def maintain(url: str, queue: str) -> None:
    """Promote, recover and advance for ever. While Redis is away, try again."""
    connection, keys = AsyncConnection(RedisSettings.from_url(url)), QueueKeys(queue)
    print(json.dumps(["began", 0]), flush=True)
    while True:
        with contextlib.suppress(errors.RedisError):
            for chore, found in (
                ("promoted", (await promote_due.run_once(connection, keys)).count),
                (
                    "recovered",
                    await recover_stalled.run_once(connection, keys, interval_ms=CHECK_MS, max_stalled_count=99),
                ),
                ("advanced", await _advance(connection, keys)),
            ):
                if found:
                    print(json.dumps([chore, found]), flush=True)
        await asyncio.sleep(PAUSE_SECONDS)


async def _advance(connection: AsyncConnection, keys: QueueKeys) -> list[str]:
    made = await advance_schedulers.run_once(connection, keys, also_waiting=True, catch_up_ms=CATCH_UP_MS)
    return made.job_ids


class Maintainers:
    """Several such processes at work on one queue."""

    def __init__(self, url: str, queue: str, folder: Path, count: int) -> None:
        self._paths = [folder / f"maintainer-{number}" for number in range(count)]
        self.processes = []
        for path in self._paths:
            with path.open("wb") as output:
                argv = [sys.executable, "-m", "support.maintainer", url, queue]
                tests = Path(__file__).resolve().parents[1]
                self.processes.append(subprocess.Popen(argv, stdout=output, cwd=tests, preexec_fn=die_with_parent))

    def done(self, chore: str) -> list[list[Any]]:
        """What each process did of one chore."""
        # A line may be half written.
        texts = [path.read_text().rpartition("\n")[0] for path in self._paths]
        lines = [[json.loads(line) for line in text.splitlines()] for text in texts]
        return [[found for name, found in each if name == chore] for each in lines]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(url: str, queue: str, folder: Path, *, count: int = 3) -> Iterator[Maintainers]:
    """Processes that do the chores of a queue for the length of the block."""
    maintainers = Maintainers(url, queue, folder, count)
    try:
        wait_until(lambda: all(maintainers.done("began")), "the maintainers to begin", timeout_seconds=60)
        yield maintainers
        assert [process.poll() for process in maintainers.processes] == [None] * count, "a maintainer has ended"
    finally:
        maintainers.close()


if __name__ == "__main__":
    asyncio.run(maintain(sys.argv[1], sys.argv[2]))
