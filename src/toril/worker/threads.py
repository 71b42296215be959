"""Threads for functions that may block. Cheap for those that do not: many jobs cost one wake-up each way."""

from __future__ import annotations

import asyncio
import collections
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Threads(Generic[T]):
    """Runs calls in threads of its own, which are made as they are needed; what comes of them is told on the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, size: int, on_ended: Callable[[T, Any, BaseException | None], None]
    ) -> None:
        """Args:
        size: threads at most. What is submitted beyond that waits.
        on_ended: called on the loop, with what was submitted, what the call returned, and what it raised.
        """
        self._loop = loop
        self._size = size
        self._on_ended = on_ended
        self._calls: queue.SimpleQueue[tuple[T, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._ended: collections.deque[tuple[T, Any, BaseException | None]] = collections.deque()
        self._is_told = False
        self._unended = 0
        self._threads = 0

    def submit(self, subject: T, call: Callable[[], Any]) -> None:
        """Run `call` in a thread; `subject` is what `on_ended` is told about.

        Raises:
            RuntimeError: there is not a single thread to be had; the call will not be run.
        """
        self._unended += 1
        if self._threads < min(self._size, self._unended):
            self._start_thread()
        self._calls.put((subject, call))

    def _start_thread(self) -> None:
        # A function that never ends is not to keep the process.
        thread = threading.Thread(target=self._work, name=f"toril-job-{self._threads + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The machine gives no more: those that are there take turns.
            if not self._threads:
                self._unended -= 1
                raise
        else:
            self._threads += 1

    def close(self) -> None:
        """Let the threads end when what they run has."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            subject, call = item
            try:
                self._ended.append((subject, call(), None))
            except BaseException as problem:
                # Also SystemExit: whatever a function raises ends its job and nothing else.
                self._ended.append((subject, None, problem))
            del item, subject, call
            if not self._is_told:
                self._is_told = True
                try:
                    self._loop.call_soon_threadsafe(self._tell)
                except RuntimeError:
                    # The loop is closed: nobody is interested any more.
                    return

    def _tell(self) -> None:
        self._is_told = False
        while self._ended:
            self._unended -= 1
            self._on_ended(*self._ended.popleft())
