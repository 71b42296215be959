"""What the command line says and how it ends: data on stdout, everything else on stderr, one exit code a cause."""

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
    """What was asked for was tried and did not work: a job failed, a check failed."""
    USAGE = 2
    """A flag, a value or a manifest was wrong; nothing was done."""
    NOT_FOUND = 3
    CONFLICT = 4
    """It exists already, or something else is in the way."""
    NOT_PERMITTED = 5
    TIMEOUT = 6
    UNREACHABLE = 69
    """Redis did not answer (EX_UNAVAILABLE)."""
    INTERRUPTED = 130


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
    """What the user asked for, on stdout. Where that cannot be written, the exit code still says what was done."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader is gone, as with `toril … | head`.
        leave(sys.stdout)
    except OSError as problem:
        leave(sys.stdout)
        error(f"what was done stays done, but its output cannot be written: {problem.strerror}; it is: {text[:200]}")


def note(text: str) -> None:
    """What else there is to know, on stderr. Where that is closed or full, nobody can be told."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        leave(sys.stderr)


def leave(stream: TextIO) -> None:
    """Send what is still to be written on a broken stream nowhere: Python would fail on it once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def error(text: str) -> None:
    note(f"toril: {text}")
