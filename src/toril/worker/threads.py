"""Threads for functions that may block. Cheap for those that do not: one thread runs many, and the loop waits for them.

Where calls are not quick, a thread that begins one while others are left wakes the next thread. That one can only come
if the call waits for something: as long as Python runs, it is one thread's turn.
"""

from __future__ import annotations

import asyncio
import collections
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from toril.worker import forks

T = TypeVar("T")

QUICK_SECONDS = 0.001
"""Calls that have all ended in this time are quick. The loop stands still so long for calls like those: to be told of
their end would cost more."""
QUICK_ROUNDS = 16
"""So many rounds of quick calls in a row must be seen before the loop stands still again, after it did so in vain."""


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
        self._calls: collections.deque[tuple[T, Callable[[], Any]]] = collections.deque()
        self._ended: collections.deque[tuple[T, Any, BaseException | None]] = collections.deque()
        self._unended = 0
        # Threads that have nothing to do wait for a token: True = look for calls, False = end.
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._is_waking = False
        """Whether a thread was woken that has not looked yet."""
        self._is_report_due = False
        self._is_awaited = False
        self._settled = threading.Lock()
        self._settled.acquire()
        self._quick_rounds = QUICK_ROUNDS
        self._began = 0.0

    def submit(self, subject: T, call: Callable[[], Any]) -> None:
        """Let `call` be run in a thread; `subject` is what `on_ended` is told about. To be followed by `begin`.

        Raises:
            RuntimeError: there is not a single thread to be had; the call will not be run.
        """
        if not self._threads:
            self._start_thread(is_awake=False)
            self._threads = self._idle = 1
        if not self._unended:
            self._began = self._loop.time()
        self._unended += 1
        self._calls.append((subject, call))

    def begin(self) -> None:
        """Run what was submitted. Quick calls have ended, and their ends are told, when this returns."""
        if self._calls and self._quick_rounds >= QUICK_ROUNDS:
            self._settled.acquire(blocking=False)
            self._is_awaited = True
            self._wake_another()
            self._settled.acquire(timeout=QUICK_SECONDS)
            self._is_awaited = False
            self.report_ended()
            if self._unended:
                self._quick_rounds = 0
        if self._calls:
            self._wake_another()

    def report_ended(self) -> None:
        """Tell now what has ended, not when the loop comes round to it."""
        while self._ended:
            self._unended -= 1
            self._on_ended(*self._ended.popleft())

    def close(self) -> None:
        """Let the threads end when what they run has. What has not begun is not run."""
        self._calls.clear()
        self._tokens.put(False)

    # ---- in any thread

    def _wake_another(self) -> None:
        """Let one more thread look for calls, unless one is on its way, or all are busy and will come by themselves."""
        if self._is_waking:
            return
        with self._counting:
            is_new = not self._idle
            if is_new and self._threads >= self._size:
                return
            self._is_waking = True
            if is_new:
                self._threads += 1
            else:
                self._idle -= 1
        if not is_new:
            self._tokens.put(True)
            return
        try:
            self._start_thread(is_awake=True)
        except RuntimeError:
            # The machine gives no more: those that are there take turns. One may have become idle meanwhile, and what
            # was submitted then counted on the new one.
            with self._counting:
                self._threads -= 1
                has_idle = self._is_waking = self._idle > 0
                self._idle -= has_idle
            if has_idle:
                self._tokens.put(True)

    def _start_thread(self, *, is_awake: bool) -> None:
        # A function that never ends is not to keep the process.
        threading.Thread(target=self._work, args=(is_awake,), name="toril-job", daemon=True).start()

    def _work(self, is_awake: bool) -> None:
        while is_awake or self._tokens.get():
            is_awake = self._is_waking = False
            self._run_calls()
            with self._counting:
                # What was submitted just now may have counted on us.
                is_awake = bool(self._calls)
                self._idle += not is_awake
        # The end is everybody's.
        self._tokens.put(False)

    def _run_calls(self) -> None:
        while True:
            try:
                subject, call = self._calls.popleft()
            except IndexError:
                return
            if self._calls and not self._is_awaited:
                self._wake_another()
            ended: tuple[T, Any, BaseException | None]
            try:
                ended = (subject, call(), None)
            except BaseException as problem:
                # Also SystemExit: whatever a function raises ends its job and nothing else.
                ended = (subject, None, problem)
            if forks.is_child:
                forks.end_child(ended[2])
            self._ended.append(ended)
            del subject, call, ended
            if self._is_awaited:
                if len(self._ended) == self._unended:
                    self._end_wait()
            elif not self._is_report_due:
                self._is_report_due = True
                try:
                    self._loop.call_soon_threadsafe(self._report_later)
                except RuntimeError:
                    # The loop is closed: nobody is interested any more.
                    return

    def _end_wait(self) -> None:
        try:
            self._settled.release()
        except RuntimeError:
            # Another thread was faster.
            return

    # ---- on the loop

    def _report_later(self) -> None:
        self._is_report_due = False
        self.report_ended()
        if not self._unended:
            is_quick = self._loop.time() - self._began < QUICK_SECONDS
            self._quick_rounds = self._quick_rounds + 1 if is_quick else 0
