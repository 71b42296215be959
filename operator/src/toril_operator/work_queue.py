"""Keys that must be looked at: each once, never by two at the same time, with growing pauses after failures."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from toril import clock

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 60.0


class WorkQueue(Generic[K]):
    """Used on one event loop. `add` may be called from anywhere on it, also for the key that is being processed: it
    is then processed once more."""

    def __init__(self) -> None:
        self._waiting: deque[K] = deque()
        self._dirty: set[K] = set()
        """Keys in `_waiting`, or in `_processing` and to be processed once more."""
        self._processing: dict[K, int] = {}
        self._failures: dict[K, int] = {}
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._available = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Keys that wait to be processed now."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Have the key processed soon."""
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_later(self, key: K, seconds: float) -> None:
        """Have the key processed after a pause, or earlier if something else asks for it; the earlier of two wins."""
        when = asyncio.get_running_loop().time() + seconds
        if (timer := self._later.get(key)) is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._later[key] = asyncio.get_running_loop().call_at(when, self.add, key)

    def add_failed(self, key: K) -> float:
        """Have the key processed again after 0.2 s, 0.4 s, 0.8 s … 60 s, each with up to 20 % more; answers which."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_SECONDS) * random.uniform(1, 1.2)
        self.add_later(key, pause)
        return pause

    def forget_failures(self, key: K) -> None:
        self._failures.pop(key, None)

    def longest_processing_ms(self) -> int:
        """For how long the slowest key has been worked on; 0 when none is."""
        return clock.monotonic_ms() - min(self._processing.values()) if self._processing else 0

    async def wait_idle(self) -> None:
        """Wait until no key is being processed."""
        await self._idle.wait()

    async def process_loop(self, process: Callable[[K], Awaitable[None]]) -> None:
        """Process keys until cancelled. Several of these may run side by side. `process` must not raise."""
        while True:
            while not self._waiting:
                self._available.clear()
                await self._available.wait()
            key = self._waiting.popleft()
            self._dirty.discard(key)
            self._processing[key] = clock.monotonic_ms()
            self._idle.clear()
            try:
                await process(key)
            finally:
                del self._processing[key]
                if not self._processing:
                    self._idle.set()
                if key in self._dirty:
                    self._push(key)

    def close(self) -> None:
        """Drop everything that waits."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self._waiting.clear()
        self._dirty.clear()

    def _push(self, key: K) -> None:
        self._waiting.append(key)
        self._available.set()
