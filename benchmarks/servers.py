"""A fresh Redis server for each step, and what it says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.redis_server import RedisServer

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


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
        return int(self.info("memory")["used_memory"])

    def commands(self) -> dict[str, tuple[int, int]]:
        """Calls and microseconds by command, since the last `reset_commands`."""
        found = self.info("commandstats")
        return {name.removeprefix("cmdstat_"): (row["calls"], row["usec"]) for name, row in found.items()}

    def reset_commands(self) -> None:
        self.client.config_resetstat()
