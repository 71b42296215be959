"""What the CronJobSchedules of one namespace have in Redis, on the queue `email`, seen without our own code."""

from __future__ import annotations

from typing import Any

import redis

BASE = "bull:email:"


class StoredSchedules:
    """Used in a `with` block."""

    def __init__(self, url: str, namespace: str) -> None:
        self.raw: Any = redis.Redis.from_url(url, decode_responses=True)
        self.namespace = namespace

    def __enter__(self) -> StoredSchedules:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def scheduler_id(self, name: str = "mine") -> str:
        """The default id of a schedule's scheduler."""
        return f"{self.namespace}.{name}"

    def key(self, name: str = "mine") -> str:
        """Key of the scheduler's hash."""
        return f"{BASE}repeat:{self.scheduler_id(name)}"

    def record(self, name: str = "mine") -> dict[str, str]:
        """The scheduler's hash and, as `next`, its slot; empty when there is none."""
        found: dict[str, str] = self.raw.hgetall(self.key(name))
        slot = self.raw.zscore(f"{BASE}repeat", self.scheduler_id(name))
        return {**found, "next": str(int(slot))} if slot is not None else found

    def slots(self, name: str = "mine") -> list[int]:
        """The slots that have jobs, wherever those are."""
        start = f"{self.key(name)}:"
        found = (key.removeprefix(start) for key in self.raw.scan_iter(f"{start}*", count=1000))
        # A job's lock and logs have keys below its own; one scan may return a key twice.
        return sorted({int(text) for text in found if text.isdigit()})

    def ids(self, place: str) -> list[str]:
        """Ids of the jobs in a list or set of the queue."""
        key = BASE + place
        return list(self.raw.lrange(key, 0, -1) if place == "wait" else self.raw.zrange(key, 0, -1))
