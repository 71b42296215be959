"""Process 1 of a container without an init: its duties are not the worker's.

The kernel drops signals that process 1 has no handler for, and gives it every orphan to reap. A worker that reaped
whatever ends would take the exit codes of the children that its jobs wait for. So process 1 makes a child, which is the
worker, passes signals on to it, reaps all others, and ends as the worker does.
"""

from __future__ import annotations

import contextlib
import os
import signal

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def stay_behind() -> None:
    """As process 1: go on in a child, and never return in this process. Elsewhere: no effect."""
    if os.getpid() != 1:
        return
    # Signals that are blocked wait, also for process 1.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD))
    worker = os.fork()
    if worker:
        os._exit(_look_after(worker))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _look_after(worker: int) -> int:
    """Pass signals on and reap until `worker` has ended; returns its exit code, 128 + the signal that ended it."""
    while True:
        number = signal.sigwait((*PASSED_ON, signal.SIGCHLD))
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
