"""Output and exit codes of the command line: data on stdout, everything else on stderr, one exit code a cause."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import TextIO

from toril import errors


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    FAILED = 1
    """The command was carried out, with a bad result: a job failed, a check failed."""
    USAGE = 2
    """A flag, a value or a manifest was wrong; nothing was done."""
    NOT_FOUND = 3
    """There is no such job."""
    CONFLICT = 4
    """The job is in another state, or a key holds another type."""
    NOT_PERMITTED = 5
    """Redis refused the credentials, or the user lacks a right."""
    TIMEOUT = 6
    """The job did not end within `--timeout`."""
    UNREACHABLE = 69
    """Redis did not answer (EX_UNAVAILABLE)."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT)."""


def exit_code_of(problem: errors.TorilError) -> ExitCode:
    """The exit code under which an error of ours is reported."""
    match problem:
        case errors.InvalidInputError() | errors.SettingsError():
            return ExitCode.USAGE
        case errors.RedisError():
            refused = problem.reason == errors.RedisReason.AUTH_FAILED
            broken = problem.reason == errors.RedisReason.WRONG_TYPE
            return ExitCode.NOT_PERMITTED if refused else ExitCode.CONFLICT if broken else ExitCode.UNREACHABLE
        case errors.JobNotFoundError():
            return ExitCode.NOT_FOUND
        case errors.JobStateError():
            return ExitCode.CONFLICT
        case errors.ResultTimeoutError():
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.FAILED


def printable(text: str) -> str:
    """Text from outside (a worker's log, a server's message) without what could steer a terminal."""
    return "".join(part if part.isprintable() else " " if part in "\t\n" else "�" for part in text)


def has_terminal(stream: TextIO) -> bool:
    """Whether drawing (a table that updates in place, bars) makes sense on this stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def data(text: str) -> None:
    """Print the result of a command on stdout. When stdout cannot be written, the exit code is that of the work."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader is gone, as with `toril … | head`.
        leave(sys.stdout)
    except OSError as problem:
        leave(sys.stdout)
        error(f"what was done stays done, but its output cannot be written: {problem.strerror}; it is: {text[:200]}")


def note(text: str) -> None:
    """Print a message on stderr. A stderr that is closed or full is ignored."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        leave(sys.stderr)


def leave(stream: TextIO) -> None:
    """Redirect a broken stream to /dev/null: Python flushes it at its exit, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def error(text: str) -> None:
    note(f"toril: {text}")
