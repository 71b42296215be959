"""A fresh Redis server for each step, and what it says about itself."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.redis_server import RedisServer
from support.waiting import wait_until

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
SETTLED_LOOKS = 25
"""So many looks in a row, a tenth of a second apart: after two seconds Redis takes idle clients' buffers back."""


@contextmanager
def fresh(*options: str) -> Iterator[Server]:
    """A server process of its own, ended and removed with the block."""
    server = RedisServer(*options)
    try:
        yield Server(server)
    finally:
        server.remove()


class Server:
    """The server under a contender."""

    def __init__(self, server: RedisServer) -> None:
        self.url = server.url
        self.client = server.client()

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.info(section)
        return found

    @property
    def cpu_seconds(self) -> float:
        cpu = self.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])

    @property
    def memory_bytes(self) -> int:
        """Memory in use, once the server's tables have finished to grow and its clients' buffers are small again."""
        seen: collections.deque[int] = collections.deque(maxlen=SETTLED_LOOKS)

        def is_settled() -> bool:
            seen.append(int(self.info("memory")["used_memory"]))
            return len(seen) == SETTLED_LOOKS and len(set(seen)) == 1

        wait_until(is_settled, "memory that stays the same", timeout_seconds=30, interval_seconds=0.1)
        return seen[-1]

    def commands(self) -> dict[str, tuple[int, int]]:
        """Calls and microseconds by command, since the last `reset_commands`."""
        found = self.info("commandstats")
        return {name.removeprefix("cmdstat_"): (row["calls"], row["usec"]) for name, row in found.items()}

    def reset_commands(self) -> None:
        self.client.config_resetstat()
