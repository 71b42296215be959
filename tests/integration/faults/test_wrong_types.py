"""Keys of a queue that have another type than BullMQ's: the queue stands still, loses nothing, and goes on when mended."""

from __future__ import annotations

import collections

import pytest

from support import invariants
from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, errors
from toril.engine.scripts import Finish

NAMES = (
    "wait", "active", "prioritized", "delayed", "completed", "failed", "events", "marker", "limiter", "meta", "stalled",
)  # fmt: skip


class Wrong:
    """A key that is of another type for a while; what it held is kept aside."""

    def __init__(self, stored: EngineQueue, name: str) -> None:
        self._raw = stored.raw
        self._key, self._aside = stored.keys.base + name, f"aside:{stored.keys.queue}"

    def break_it(self) -> None:
        if self._raw.exists(self._key):
            self._raw.rename(self._key, self._aside)
        self._raw.geoadd(self._key, (1, 2, "x")) if self._is_no_zset else self._raw.set(self._key, "x")
