"""Processes that jobs make with `fork`: they are no workers, and signals mean to them what signals mean to any process.

A fork of the worker begins as its copy: with its signal handlers, with the descriptor through which signals wake its
event loop, and with its connections. `watch` undoes the first two in every such child, before the child runs any code
of its own. `leave` ends a child that comes back out of the job's function: it would go on as a second worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop a worker."""

CANNOT_WAIT = RuntimeError("a child process has no event loop: what it awaits never comes")

is_child = False
"""Whether this process was made by `fork` after `watch`."""
_is_watching = False
_masks = threading.local()


class WorkerHandler:
    """A signal handler of the worker's own; children do not keep it."""

    def __init__(self, act: Callable[[signal.Signals], object]) -> None:
        self._act = act

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._act(signal.Signals(number))


def watch() -> None:
    """Give children of this process default signal handling, from now on. Again: no effect."""
    global _is_watching  # noqa: PLW0603 - a process has one set of hooks, which cannot be taken back
    if not _is_watching:
        _is_watching = True
        os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_become_child)


def end_child(problem: BaseException | None = None) -> NoReturn:
    """End this process, a job's child, with 0, or as a Python program that raised `problem`. Ask `is_child` before."""
    code = 0
    with contextlib.suppress(BaseException):
        code = _exit_code(problem)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)


def _exit_code(problem: BaseException | None) -> int:
    """What the process that raised `problem` ends with, once it has said what that was."""
    if problem is None:
        return 0
    if not isinstance(problem, SystemExit):
        import traceback

        traceback.print_exception(problem)
        return 1
    if isinstance(problem.code, int):
        return problem.code & 0xFF
    if problem.code is not None:
        sys.stderr.write(f"{problem.code}\n")
    return int(problem.code is not None)


def _hold_signals() -> None:
    # A signal for the child that comes before `_become_child` would be lost: Python clears what is pending there.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _become_child() -> None:
    global is_child  # noqa: PLW0603 - set once in a process's life
    is_child = True
    # Python 3.11 leaves the descriptor in place: the child's signals would arrive in the worker's loop.
    signal.set_wakeup_fd(-1)
    ours = [number for number in STOPPING if isinstance(signal.getsignal(number), WorkerHandler)]
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    # One that has come already ends the child here: Python drops exceptions, such as KeyboardInterrupt, of this hook.
    _release_signals()
    if signal.SIGINT in ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
