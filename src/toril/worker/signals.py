"""What the signals that stop a worker do, at each moment of its process's life. Imports little: it comes first."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from toril.worker import forks

if TYPE_CHECKING:
    import asyncio
    import socket


def leave_at_once() -> None:
    """From now on a signal ends the process, with code 0: until the worker runs there is nothing to drain."""
    _handle(lambda number: os._exit(0))
    forks.watch()


@contextlib.contextmanager
def delivered(loop: asyncio.AbstractEventLoop, on_signal: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Inside, each signal calls `on_signal` on the running `loop`. Afterwards signals do nothing: the process ends.

    `loop.add_signal_handler` is not used: there the byte that wakes the loop is also the message. A child that gets the
    signal between its fork and its exec writes that byte too. Here the byte only wakes the loop, and the handler runs
    in the process that got the signal.
    """
    import socket

    receiver, waker = socket.socketpair()
    receiver.setblocking(False)
    waker.setblocking(False)
    loop.add_reader(receiver, _empty, receiver)
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    _handle(lambda number: loop.call_soon_threadsafe(on_signal, number))
    try:
        yield
    finally:
        _handle(lambda number: None)
        signal.set_wakeup_fd(before)
        loop.remove_reader(receiver)
        receiver.close()
        waker.close()


def _handle(act: Callable[[signal.Signals], object]) -> None:
    for number in forks.STOPPING:
        signal.signal(number, forks.WorkerHandler(act))


def _empty(receiver: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        receiver.recv(4096)
